"""The repository that the working folder lies in, as readers of findings by file know it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

# Files that most repositories have, for findings that have no place of their own.
_ANCHORS = ("pyproject.toml", "setup.cfg", "README.md", "README.rst", "README.txt", "README")


class Repository(NamedTuple):
    """Where it starts, where the working folder lies in it, and a file that stands for it."""

    root: Path
    folder: str  # below the root, POSIX; "" is the root
    anchor: str  # from the working folder, POSIX; "" where none is known


def repository(start: Path) -> Repository:
    """The repository around ``start``: the nearest folder with ``.git``, else ``start`` itself.

    The anchor is the nearest of the files that projects have, from ``start`` upwards to the root.
    """
    start = start.resolve()
    root = next((each for each in (start, *start.parents) if (each / ".git").exists()), start)
    folder = start.relative_to(root).as_posix()
    return Repository(root, "" if folder == "." else folder, _anchor(start, root))


def _anchor(start: Path, root: Path) -> str:
    up = ""
    for folder in (start, *start.parents):
        for name in _ANCHORS:
            if (folder / name).is_file():
                return up + name
        if folder == root:
            break
        up += "../"
    return ""
