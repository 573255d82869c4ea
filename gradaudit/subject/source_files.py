"""Whose a source file is, and how reports name a place in it."""

from __future__ import annotations

import os
import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

import gradaudit

_OURS = str(Path(gradaudit.__file__).parent)
_TORCH = str(Path(torch.__file__).parent)
_INSTALLED = ("site-packages", "dist-packages")


class SourceLine(NamedTuple):
    """A file, relative to the working directory where it lies below it, and a line in it."""

    file: str
    line: int


@cache
def is_ours(file: str) -> bool:
    """Whether it is a file of this package's."""
    return Path(file).is_relative_to(_OURS)


@cache
def of_user(file: str) -> str:
    """The absolute path of a file of the user's; empty for everybody else's and for no file."""
    path = Path(file)
    if file.startswith("<") or is_ours(file) or any(part in path.parts for part in _INSTALLED):
        return ""
    standard = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    if any(path.is_relative_to(home) for home in (_TORCH, *standard)):
        return ""
    return str(path.absolute()) if path.is_file() else ""


def relative(file: str, home: Path | None = None) -> str:
    """An absolute path from ``home``, the working directory, where it lies below it."""
    path = Path(file)
    home = home or Path.cwd()
    return (path.relative_to(home) if path.is_relative_to(home) else path).as_posix()


class Sources:
    """The user's files as seen from a working directory: those of its repository go first."""

    def __init__(self, home: Path, root: Path) -> None:
        self._home, self._root = home, root

    def is_inside(self, file: str) -> bool:
        """Whether a file of the user's lies in the repository."""
        return bool(of_user(file)) and Path(of_user(file)).is_relative_to(self._root)

    def line(self, file: str, line: int) -> SourceLine | None:
        """A place for reports: within the repository from the working directory, else absolute."""
        path = of_user(file)
        if not path:
            return None
        if Path(path).is_relative_to(self._root):
            return SourceLine(Path(os.path.relpath(path, self._home)).as_posix(), line)
        return SourceLine(relative(path, self._home), line)
