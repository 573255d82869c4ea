"""Writing result files: whole or not at all, and never over somebody else's file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from gradaudit.errors import UsageError

_HTML = (b"<!doctype html>", b'<meta name="generator" content="gradaudit ')
_JSON = '"gradaudit.report/'
_HEAD = 4096  # bytes; the HTML report's generator tag stands within


def check_writable(path: Path, *, force: bool) -> None:
    """Raise ``UsageError`` before any work is done if ``path`` could not be written afterwards.

    An earlier report of gradaudit's or an empty file may be replaced; any other only with
    ``force``.
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}", expected="a file", found="a directory")
    if not path.parent.is_dir():
        raise UsageError(
            f"cannot write {path}", found=f"no folder {path.parent}", next_step="create it first"
        )
    if not os.access(path.resolve().parent, os.W_OK):
        raise UsageError(f"cannot write {path}", found=f"no permission to write in {path.parent}")
    if not path.exists():
        return
    if not path.is_file():
        raise UsageError(
            f"cannot write {path}",
            expected="a file",
            found="a device or pipe",
            next_step="use - for standard output",
        )
    if not force and not _is_report(path):
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
        with suppress(ValueError):
            return str(json.loads(content).get("schema")).startswith(_JSON.strip('"'))
    start, tag = _HTML
    head = content[:_HEAD]
    return not content or (head.lstrip().lower().startswith(start) and tag in head)


def write_whole(texts: Mapping[Path, str]) -> None:
    """Write every text beside its path, and move them into place once all are written.

    Raises ``UsageError`` where one cannot be written; none is then left behind.
    """
    parts: dict[Path, Path] = {}
    path = Path()
    try:
        for path, text in texts.items():
            _write_part(path.resolve(), text, parts)
        for path, part in parts.items():
            os.replace(part, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}", found=error.strerror or str(error)) from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _write_part(path: Path, text: str, parts: dict[Path, Path]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    parts[path] = Path(name)
    # file names that are no text come as lone surrogates, which UTF-8 has no form for
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(name, 0o666 & ~mask)


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
