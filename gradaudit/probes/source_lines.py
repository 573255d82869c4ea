"""The line of the user's code that called the operation now running."""

from __future__ import annotations

import sys
from types import FrameType

from gradaudit.subject.source_files import SourceLine, is_ours, of_user, relative


def calling_line() -> SourceLine | None:
    """The innermost line of the user's own code on the stack, below whatever of ours called it.

    Frames of torch, of installed packages and of the standard library are passed over, and so is
    code without a file. Seen from inside a dispatch mode: our own frames on top are skipped, and
    the next of ours is where the model was called, beyond which is nothing that it did. ``None``
    where all of it is somebody else's, as in a plain ``nn.Sequential``.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    while frame is not None and not is_ours(frame.f_code.co_filename):
        file = of_user(frame.f_code.co_filename)
        if file:
            return SourceLine(relative(file), frame.f_lineno)
        frame = frame.f_back
    return None
