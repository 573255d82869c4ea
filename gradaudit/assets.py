"""Style and script beside the pages, for servers whose policy forbids them within."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from gradaudit.errors import UsageError
from gradaudit.output import check_writable

NAMES = ("gradaudit.css", "gradaudit.js")


def check_assets(folder: str | None, *, force: bool) -> None:
    """Raise ``UsageError`` before any work if style and script could not be written there."""
    if not folder:
        return
    place = Path(folder)
    if place.is_dir():
        for name in NAMES:
            check_writable(place / name, force=force)
        return
    cannot = f"cannot write into {folder}"
    if os.path.lexists(place):
        raise UsageError(cannot, expected="a folder", found="a file")
    home = place.absolute().parent
    if not home.is_dir():
        raise UsageError(cannot, found=f"no folder {place.parent}", next_step="create it")
    if not os.access(home, os.W_OK | os.X_OK):
        raise UsageError(cannot, found=f"no permission to write in {place.parent}")


def linked(
    files: Mapping[Path, str], result: str | None, folder: str | None
) -> tuple[dict[Path, str], str | None]:
    """The files of a run with ``folder``'s own among them, to which every page is linked.

    ``result``, what goes to standard output, is linked as if it lay in the working folder. Without
    a folder everything stays as it is.
    """
    if not folder:
        return dict(files), result
    from gradaudit.reports import html

    pages = {
        path: html.linked(text, _way(folder, path.parent)) if html.is_page(text) else text
        for path, text in files.items()
    }
    if result is not None and html.is_page(result):
        result = html.linked(result, _way(folder, Path()))
    texts = html.assets()
    return {**pages, **{Path(folder) / name: texts[name] for name in NAMES}}, result


@contextmanager
def folder_for(folder: str | None) -> Iterator[None]:
    """The folder is there while files are written into it; an error takes a new one away."""
    place = Path(folder) if folder else None
    new = place is not None and not place.exists()
    try:
        if place is not None and new:
            place.mkdir()
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write into {folder}", found=error.strerror or str(error)
        ) from None
    except BaseException:
        if place is not None and new:
            with suppress(OSError):
                place.rmdir()
        raise


def _way(folder: str, start: Path) -> str:
    """The address of ``folder`` for a page that lies in ``start``; empty or ending in a slash."""
    way = Path(os.path.relpath(folder, start)).as_posix()
    return "" if way == "." else quote(os.fsencode(way)) + "/"
