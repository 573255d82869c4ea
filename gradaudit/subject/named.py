"""What a name in user code may stand for: a model, a Subject, or a function giving either."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from gradaudit.errors import UsageError
from gradaudit.subject.code import call
from gradaudit.subject.forwarding import Forwarding, has_forward
from gradaudit.subject.opened import Subject


def as_subject(found: Any, spec: str) -> Subject:
    """The subject that ``found``, named ``spec`` by the user, stands for.

    Wrappers of ``torch.compile`` and data parallelism are taken off. Raises ``UsageError`` for
    anything that is no model, ``ModelError`` where a factory raises.
    """
    if isinstance(found, torch.export.ExportedProgram):
        raise _exported(spec)
    if isinstance(found, (nn.Module, Subject)) or has_forward(found):
        return _unwrapped(found)
    if not callable(found):
        raise UsageError(
            f"{spec} is no model",
            expected="a torch.nn.Module (or another object with forward), a gradaudit.Subject, "
            "or a function that returns one",
            found=f"an object of type {type(found).__name__}",
        )
    made = call(found, spec)
    if isinstance(made, (nn.Module, Subject)) or has_forward(made):
        return _unwrapped(made)
    raise UsageError(
        f"{spec}() returned no model",
        expected="a torch.nn.Module or a gradaudit.Subject",
        found="None" if made is None else f"an object of type {type(made).__name__}",
    )


def _unwrapped(found: Any) -> Subject:
    """A subject whose model is free of torch.compile and data-parallel wrappers."""
    subject = found if isinstance(found, Subject) else Subject(found)
    model = subject.model
    if not isinstance(model, nn.Module) and has_forward(model):
        model = Forwarding(model)
    if not isinstance(model, nn.Module):
        raise UsageError(
            "the subject's model is no model",
            expected="a torch.nn.Module",
            found=f"an object of type {type(model).__name__}",
        )
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, wrappers):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, fx.GraphModule) and "train" in vars(model):
            raise _exported("the model")  # its train() raises
        else:
            return replace(subject, model=model)


def _exported(what: str) -> UsageError:
    return UsageError(
        f"{what} is an exported program, whose modes cannot be switched",
        expected="the module it was exported from, or a .pt2 file",
        next_step="write it with torch.export.save and audit the file",
    )
