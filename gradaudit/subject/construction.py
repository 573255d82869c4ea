"""Where in the user's code each module of a model was made."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from torch import nn

from gradaudit.repository import repository
from gradaudit.subject.code import UserCode
from gradaudit.subject.definitions import class_line, object_line
from gradaudit.subject.source_files import SourceLine, Sources, is_ours

_VARARGS = 0x04  # the flag of code that takes *args


class Construction:
    """The lines that called each module's class, and those that define the classes."""

    def __init__(self) -> None:
        here = Path.cwd()  # before the user's code can change it
        self.sources = Sources(here, repository(here).root)
        self._made: dict[int, weakref.ref[nn.Module]] = {}
        self._lines: dict[int, SourceLine | None] = {}
        self._classes: dict[type, SourceLine | None] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note every module that is made inside.

        ``nn.Module.__init__`` is put back on exit, also where the body raises; if somebody has
        replaced it meanwhile, theirs stays and what it may call of ours does nothing any more.
        """
        kind: Any = nn.Module
        before = kind.__init__
        on = True

        @wraps(before)
        def noted(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            if on:
                self._note(module, sys._getframe(1))
            before(module, *args, **kwargs)

        kind.__init__ = noted
        try:
            yield
        finally:
            on = False
            if kind.__init__ is noted:
                kind.__init__ = before

    def lines(self, model: nn.Module) -> dict[str, SourceLine]:
        """A line for each module of ``model`` that one is known for, by its name.

        The line that made it; else the one that defines its class, in the user's repository; else
        that of the module around it, as for what is made inside an installed package.
        """
        found: dict[str, SourceLine] = {}
        for name, module in model.named_modules():
            line = self.of(module) or self.defined(type(module))
            line = line or found.get(name.rpartition(".")[0])
            if line is not None:
                found[name] = line
        return found

    def of(self, module: nn.Module) -> SourceLine | None:
        """The line that made this very module; ``None`` where it was not seen."""
        made = self._made.get(id(module))
        return self._lines[id(module)] if made is not None and made() is module else None

    def defined(self, kind: type) -> SourceLine | None:
        """The line that defines a class, if that lies in the user's repository."""
        if kind not in self._classes:
            known = class_line(kind)
            inside = known is not None and self.sources.is_inside(known.file)
            self._classes[kind] = self.sources.line(*known) if known and inside else None
        return self._classes[kind]

    def named(self, found: Any, code: UserCode, spec: str) -> SourceLine | None:
        """The line that defines what ``spec`` names, ``found`` in the user's code."""
        module = code.module(spec)
        known = object_line(found, module, spec.rpartition(":")[2])
        return self.sources.line(*known) if known is not None else None

    def _note(self, module: nn.Module, frame: FrameType | None) -> None:
        while frame is not None and _makes(frame, module):
            frame = frame.f_back
        self._made[id(module)] = weakref.ref(module)  # an id may be another's after its death
        self._lines[id(module)] = self.innermost(frame)

    def innermost(self, frame: FrameType | None) -> SourceLine | None:
        """The innermost line in the user's repository, else in any file of the user's.

        Our own frames are where the user's code was called from: beyond them is nothing of it.
        """
        elsewhere: SourceLine | None = None
        while frame is not None and not is_ours(frame.f_code.co_filename):
            file = frame.f_code.co_filename
            if self.sources.is_inside(file):
                return self.sources.line(file, frame.f_lineno)
            if elsewhere is None and self.sources.is_users(file):
                elsewhere = self.sources.line(file, frame.f_lineno)
            frame = frame.f_back
        return elsewhere


def _makes(frame: FrameType, module: nn.Module) -> bool:
    """Whether the frame is of a function that was handed the module while it is being made.

    Its ``__init__`` and those it calls for its bases, and what wraps them as ``(*args)``.
    """
    name = _first(frame.f_code)
    if name is None:
        return False
    value = frame.f_locals.get(name)
    return value is module or (type(value) is tuple and value[:1] != () and value[0] is module)


def _first(code: CodeType) -> str | None:
    """The name of the first argument, or of the one that takes all of them."""
    if code.co_argcount:
        return code.co_varnames[0]
    return code.co_varnames[code.co_kwonlyargcount] if code.co_flags & _VARARGS else None


def caller(construction: Construction) -> SourceLine | None:
    """The line of the user's that called into this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return construction.innermost(frame)
