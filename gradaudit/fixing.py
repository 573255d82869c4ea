"""``gradaudit fix``: the audit, a longer search, and the repaired start as files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gradaudit.auditing import examine, thread_count
from gradaudit.errors import UsageError
from gradaudit.mending.change import changed
from gradaudit.mending.made import Made, made
from gradaudit.pacing import QUIET, Progress
from gradaudit.records import Report
from gradaudit.settings import BUDGETS, Settings
from gradaudit.subject import Opened, from_python, open_subject
from gradaudit.telling import quoted

if TYPE_CHECKING:
    from gradaudit.subject import OptimizerFactory


@dataclass(frozen=True)
class Fixed:
    """The audit, and the state dict that training should start from.

    ``optimizer`` is the one that the proof trained with; ``None`` where nothing is changed.
    """

    report: Report
    start: Mapping[str, Tensor]
    optimizer: Made | None = None

    @property
    def changed(self) -> bool:
        """Whether anything is to be changed, and is shown to work."""
        prescription = self.report.prescription
        return prescription is not None and prescription.proof is not None


def fix(
    model: torch.nn.Module,
    sample: Any = None,
    *,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    optimizer: torch.optim.Optimizer | OptimizerFactory | None = None,
    settings: Settings | None = None,
) -> Fixed:
    """Audit a model in memory and search for a cure; the model itself is not changed.

    Arguments and errors as for :func:`gradaudit.audit`.
    """
    settings = searching(settings or Settings())
    with thread_count(settings.threads):
        started = time.perf_counter()
        opened = from_python(model, sample, loss, optimizer, settings)
        return _fixed(opened, settings, QUIET, started)


def fix_file(spec: str, settings: Settings, progress: Progress = QUIET) -> Fixed:
    """The same for what ``spec`` names. Raises ``UsageError`` for a file that is only weights."""
    settings = searching(settings)
    with thread_count(settings.threads):
        started = time.perf_counter()
        progress.forget()
        progress("opening")
        opened = open_subject(spec, settings)
        if opened.model is None:
            raise UsageError(
                "weights alone cannot be fixed",
                expected="a model that can be run and trained",
                found=opened.row.format,
                next_step="give the code that builds it with --build",
            )
        _check_names(opened.model)
        return _fixed(opened, settings, progress, started)


def _check_names(model: nn.Module) -> None:
    """Raise ``UsageError`` for a name that ``model.safetensors`` cannot hold, before the search."""
    for name in model.state_dict():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UsageError(
                "the model cannot be written to a safetensors file",
                expected="names of tensors that are text",
                found=quoted(name),
                next_step="rename the layer",
            ) from None


def searching(settings: Settings) -> Settings:
    """The same settings with the longest search, and training enough in it to show something.

    The four steps that quick effort rehearses would prove nothing.
    """
    longest = max(budget.search_steps for budget in BUDGETS.values())
    given, least = settings.budget, BUDGETS["standard"]
    budget = replace(
        given,
        search_steps=longest,
        rehearsal_steps=max(given.rehearsal_steps, least.rehearsal_steps),
        allowance=max(given.allowance, least.allowance),
    )
    return replace(settings, spent=budget)


def _fixed(opened: Opened, settings: Settings, progress: Progress, started: float) -> Fixed:
    report = examine(opened, settings, progress, started)
    prescription = report.prescription
    proven = prescription is not None and prescription.proof is not None
    remedies = prescription.remedies if prescription is not None and proven else ()
    with changed(opened, remedies, settings.seed) as subject:
        assert subject.model is not None
        start = {
            name: _alone(value)
            for name, value in subject.model.state_dict().items()
            if isinstance(value, Tensor)
        }
        return Fixed(report, start, made(subject) if proven else None)


def _alone(value: Tensor) -> Tensor:
    """A copy with a storage of its own: tied weights share one, which files cannot hold."""
    return value.detach().clone(memory_format=torch.contiguous_format)
