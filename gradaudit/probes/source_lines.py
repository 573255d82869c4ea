"""The line of the user's code that called the operation now running."""

from __future__ import annotations

import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import FrameType
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


def calling_line() -> SourceLine | None:
    """The innermost line of the user's own code on the stack, below whatever of ours called it.

    Frames of torch, of installed packages and of the standard library are passed over, and so is
    code without a file. Seen from inside a dispatch mode: our own frames on top are skipped, and
    the next of ours is where the model was called, beyond which is nothing that it did. ``None``
    where all of it is somebody else's, as in a plain ``nn.Sequential``.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    while frame is not None and not _is_ours(frame.f_code.co_filename):
        file = _of_user(frame.f_code.co_filename)
        if file:
            return SourceLine(_relative(file), frame.f_lineno)
        frame = frame.f_back
    return None


@cache
def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(_OURS)


@cache
def _of_user(file: str) -> str:
    """The absolute path of a file of the user's; empty for everybody else's and for no file."""
    path = Path(file)
    if file.startswith("<") or any(part in path.parts for part in _INSTALLED):
        return ""
    standard = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    if any(path.is_relative_to(home) for home in (_TORCH, *standard)):
        return ""
    return str(path.absolute()) if path.is_file() else ""


def _relative(file: str) -> str:
    path = Path(file)
    home = Path.cwd()
    return (path.relative_to(home) if path.is_relative_to(home) else path).as_posix()
