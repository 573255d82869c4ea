"""Writing result files: whole or not at all, and never over somebody else's file."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gradaudit.errors import UsageError

_HTML = (b"<!doctype html>", b'<meta name="generator" content="gradaudit ')
_ASSET = b"/* gradaudit: "  # how style sheet and script of the pages start
_SCHEMAS = tuple(
    f"gradaudit.{kind}/" for kind in ("report", "run", "contents", "baseline", "diff", "config")
)
_HEAD = 4096  # bytes; the HTML report's generator tag stands within
_JUNIT = re.compile(rb"""<\?xml[^>]*\?>\s*<testsuites name=["']gradaudit["'][ />]""")
_MARKDOWN = b"<!-- gradaudit report -->\n"


def check_writable(path: Path, *, force: bool) -> None:
    """Raise ``UsageError`` before any work is done if ``path`` could not be written afterwards.

    An earlier report of gradaudit's or an empty file may be replaced; any other, and one that is
    read-only, only with ``force``.
    """
    try:
        _check_place(path)
        if path.exists() and not force:
            _check_earlier(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        found = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {path}", found=found) from None


def check_spared(path: Path, read: Iterable[str | None]) -> None:
    """Raise ``UsageError`` where ``path`` is one of the files that are read, ``force`` or not.

    Each is a file, or names code in one (``file.py:name``).
    """
    for spec in filter(None, read):
        home, colon, _ = spec.rpartition(":")
        for name in (spec, *([home] if colon else [])):
            try:
                same = path.exists() and Path(name).exists() and path.samefile(name)
            except (OSError, ValueError):  # no path at all
                same = False
            if same:
                raise UsageError(f"{name} would be replaced", next_step="choose another name")


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"cannot write {path}", expected="a file", found="a directory")
    if not path.parent.is_dir():
        raise UsageError(
            f"cannot write {path}", found=f"no folder {path.parent}", next_step="create it first"
        )
    if not os.access(path.resolve().parent, os.W_OK):
        raise UsageError(f"cannot write {path}", found=f"no permission to write in {path.parent}")
    if path.exists() and not path.is_file():
        raise UsageError(
            f"cannot write {path}",
            expected="a file",
            found="a device or pipe",
            next_step="use - for standard output",
        )


def _check_earlier(path: Path) -> None:
    if not path.stat().st_mode & 0o222:
        raise UsageError(
            f"cannot write {path}",
            found="it is read-only",
            next_step="choose another name or add --force",
        )
    if not _is_report(path):
        raise UsageError(
            f"{path} exists and is not a gradaudit report",
            next_step="choose another name or add --force",
        )


def _is_report(path: Path) -> bool:
    """Whether the file is empty or one of gradaudit's own."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}", found=error.strerror or str(error)) from None
    if content[:1] == b"{":
        with suppress(ValueError, RecursionError):
            return _is_ours(json.loads(content))
    start, tag = _HTML
    head = content[:_HEAD].lstrip()
    if not content or head.startswith((_MARKDOWN, _ASSET)) or _JUNIT.match(head):
        return True
    return head.lower().startswith(start) and tag in head


def _is_ours(found: Any) -> bool:
    """Whether an object read from JSON is a report of ours, or a SARIF log of ours alone."""
    if str(found.get("schema")).startswith(_SCHEMAS):
        return True
    runs = found.get("runs")
    each = runs if isinstance(runs, list) else []
    tools = {_text_at(run, "tool", "driver", "name") for run in each}
    return found.get("version") == "2.1.0" and tools == {"gradaudit"}


def _text_at(found: Any, *path: str) -> str:
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return str(found)


def write_whole(texts: Mapping[Path, str], between: Callable[[], None] = lambda: None) -> None:
    """Write every text beside its path, and move them into place once all are written.

    What else can fail comes ``between`` the two. Raises ``UsageError`` where one cannot be
    written; none is then left behind.
    """
    parts: dict[Path, Path] = {}
    path = Path()
    try:
        for path, text in texts.items():
            _write_part(path.resolve(), text, parts)
        between()
        for path, part in parts.items():
            os.replace(part, path)
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        found = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {path}", found=found) from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _write_part(path: Path, text: str, parts: dict[Path, Path]) -> None:
    # beside its place, since only within a file system can it be moved; the name may be long
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
    parts[path] = Path(name)
    # file names that are no text come as lone surrogates, which UTF-8 has no form for
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)  # else a crash could leave an empty file under the report's name
    os.chmod(name, 0o666 & ~_mask())


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_folder(folder: Path, names: Sequence[str], *, force: bool) -> None:
    """Raise ``UsageError`` before any work if ``names`` could not be written into ``folder``.

    It is to be new or empty; with ``force`` files of those names in it may be replaced.
    """
    cannot = f"cannot write into {folder}"
    try:
        if folder.is_dir():
            _check_existing(folder, names, force=force)
        elif folder.exists():
            raise UsageError(cannot, expected="a folder", found="a file")
        elif not folder.resolve().parent.is_dir():
            raise UsageError(cannot, found=f"no folder {folder.parent}", next_step="create it")
        elif not os.access(folder.resolve().parent, os.W_OK | os.X_OK):
            raise UsageError(cannot, found=f"no permission to write in {folder.parent}")
    except OSError as error:
        raise UsageError(cannot, found=error.strerror or str(error)) from None


def _check_existing(folder: Path, names: Sequence[str], *, force: bool) -> None:
    if not force and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", next_step="choose another folder or add --force")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write into {folder}", found="no permission")
    for name in names:
        if (folder / name).is_dir():
            raise UsageError(f"cannot write {folder / name}", found="a directory")


def write_folder(
    folder: Path, files: Mapping[str, str | Callable[[Path], None]], names: Sequence[str]
) -> None:
    """Make ``folder`` of these files, texts or what writes them; all of them or none.

    In a folder that exists they replace all files called one of ``names``, and others stay.
    Raises ``UsageError`` where one cannot be written.
    """
    target = folder.resolve()
    home = target if target.exists() else target.parent
    try:
        part = Path(tempfile.mkdtemp(dir=home, prefix=".gradaudit.", suffix=".part"))
        try:
            for name, content in files.items():
                if isinstance(content, str):
                    (part / name).write_text(content, "utf-8", "backslashreplace", "\n")
                else:
                    content(part / name)
                os.chmod(part / name, 0o666 & ~_mask())
            if home is target:
                _exchange(target, part, list(files), names)
            else:
                os.chmod(part, 0o777 & ~_mask())
                os.rename(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"cannot write into {folder}", found=error.strerror or str(error)
        ) from None


def _exchange(target: Path, part: Path, files: Sequence[str], names: Sequence[str]) -> None:
    """Move what is called one of ``names`` out of ``target`` and ``files`` in, or nothing."""
    old = part / "old"
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for name in names:
            if os.path.lexists(target / name):
                os.replace(target / name, old / name)
                moved.append((target / name, old / name))
        for name in files:
            os.replace(part / name, target / name)
            moved.append((part / name, target / name))
    except BaseException:
        for before, now in reversed(moved):
            os.replace(now, before)
        raise


def write_stdout(text: str) -> None:
    """Write ``text`` to standard output; raises ``UsageError`` where it does not take it all."""
    if sys.stdout is None:
        raise UsageError("cannot write to standard output", found="it is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(
            "cannot write to standard output", found=error.strerror or str(error)
        ) from None


@contextmanager
def results_alone_on_stdout() -> Iterator[None]:
    """Keep descriptor 1 for results: what anybody else writes there goes to standard error.

    ``sys.stdout`` becomes a UTF-8 stream over a copy of the descriptor, and the descriptor itself
    standard error, for good: child processes, C libraries and exit handlers come under it too.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started the process
        yield
        return
    sys.stdout.flush()
    results = os.fdopen(
        os.dup(1), "w", encoding="utf-8", errors="backslashreplace", newline="\n"
    )  # fmt: skip
    os.dup2(2, 1)
    sys.stdout = results
    try:
        yield
    finally:
        sys.stdout = sys.stderr
        with suppress(OSError):  # told already, where it was written
            results.close()
