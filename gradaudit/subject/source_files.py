"""Whose a source file is, and how reports name a place in it."""

from __future__ import annotations

import os
import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

import gradaudit

_OURS = str(Path(gradaudit.__file__).resolve().parent)
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
def is_installed(file: str) -> bool:
    """Whether it is of an installed package or the standard library, or made up (``<string>``)."""
    return file.startswith(_installed()) or any(each in Path(file).parts for each in _INSTALLED)


@cache
def of_user(file: str) -> str:
    """The absolute path of a file of the user's; empty for everybody else's and for no file."""
    if is_ours(file) or is_installed(file):
        return ""
    path = Path(file)
    return str(path.absolute()) if path.is_file() else ""


def made_by_user(module: object) -> bool:
    """Whether a module is of the user's own Python code: neither installed nor gradaudit's."""
    file = getattr(module, "__file__", None)
    return (
        isinstance(file, str) and file.endswith(".py") and not (is_installed(file) or is_ours(file))
    )


@cache
def _installed() -> tuple[str, ...]:
    """How names of what is installed or made up start; asked for each of thousands of modules."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    homes = [*map(sysconfig.get_path, kinds), str(Path(torch.__file__).parent)]
    return (*(f"{home}{os.sep}" for home in homes), "<")


def relative(file: str) -> str:
    """An absolute path from the working directory, where it lies below it."""
    path, home = Path(file), Path.cwd()
    return (path.relative_to(home) if path.is_relative_to(home) else path).as_posix()


class Sources:
    """The user's files as seen from a working directory: those of its repository go first."""

    def __init__(self, home: Path, root: Path) -> None:
        self._home, self._root = home, root
        self._lines: dict[tuple[str, int], SourceLine | None] = {}
        self._names: dict[str, tuple[str, bool]] = {}  # how reports name a file; is it inside

    def is_inside(self, file: str) -> bool:
        """Whether a file of the user's lies in the repository."""
        return self._name(file)[1]

    def is_users(self, file: str) -> bool:
        """Whether it is a file of the user's, wherever it lies."""
        return self._name(file)[0] != ""

    def line(self, file: str, line: int) -> SourceLine | None:
        """A place for reports: within the repository from the working directory, else absolute."""
        place = (file, line)  # a loop makes thousands on one line
        if place not in self._lines:
            name = self._name(file)[0]
            self._lines[place] = SourceLine(name, line) if name else None
        return self._lines[place]

    def _name(self, file: str) -> tuple[str, bool]:
        if file not in self._names:
            path = of_user(file)
            inside = bool(path) and Path(path).is_relative_to(self._root)
            if inside:
                path = Path(os.path.relpath(path, self._home)).as_posix()
            self._names[file] = path, inside
        return self._names[file]
