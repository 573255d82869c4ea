"""The trip from what the user names to a report; never prints."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from gradaudit import __version__
from gradaudit.errors import UsageError
from gradaudit.gate import cause, missing
from gradaudit.judging import judge
from gradaudit.locating import located
from gradaudit.mending.proof import mend
from gradaudit.pacing import QUIET, Progress
from gradaudit.records import Report
from gradaudit.rules import notes_on
from gradaudit.settings import Settings
from gradaudit.subject import Batch, Opened, from_python, open_subject, seeded
from gradaudit.subject.batches import sample_count
from gradaudit.subject.memory import in_memory

if TYPE_CHECKING:
    from gradaudit.subject import OptimizerFactory

_SMALL = 2_000_000  # parameters, and input values a batch


def audit(
    model: torch.nn.Module,
    sample: Any = None,
    *,
    loss: str | Callable[[Any, Any], torch.Tensor] | None = None,
    optimizer: torch.optim.Optimizer | OptimizerFactory | None = None,
    settings: Settings | None = None,
) -> Report:
    """Audit a model in memory; it comes back bit-identical.

    ``sample`` is a batch (a tensor, ``(inputs, target)``, or a mapping) or an iterable of batches;
    ``loss`` a name or ``(output, target) -> scalar``; ``optimizer`` an instance over the model's
    parameters or a callable from parameters to one.

    Raises a :class:`gradaudit.errors.GradauditError` where the audit cannot run as asked.
    """
    settings = settings or Settings()
    with thread_count(settings.threads):
        started = time.perf_counter()
        opened = from_python(model, sample, loss, optimizer, settings)
        return examine(opened, settings, QUIET, started)


def audit_file(spec: str, settings: Settings, progress: Progress = QUIET) -> Report:
    """Audit what ``spec`` names: a file, ``file.py:name`` or ``package.module:name``."""
    with thread_count(settings.threads):
        started = time.perf_counter()
        progress.forget()
        progress("opening")
        opened = open_subject(spec, settings)
        return examine(opened, settings, progress, started)


def examine(opened: Opened, settings: Settings, progress: Progress, started: float) -> Report:
    """Measure, judge, prescribe, and put it all into one record.

    Where memory does not suffice, of half the samples, and half of those; a note says so.
    """
    report, _, notes = in_memory(
        lambda batches: _examined(_cut(opened, batches), settings, progress, started),
        opened.batches,
    )
    return replace(report, notes=(*notes, *report.notes))


def _cut(opened: Opened, batches: tuple[Batch, ...]) -> Opened:
    if batches is opened.batches:
        return opened
    sample = replace(opened.sample, batch_size=sample_count(batches[0]))
    return replace(opened, batches=batches, sample=sample)


def _examined(opened: Opened, settings: Settings, progress: Progress, started: float) -> Report:
    with thread_count(1 if settings.threads is None and _small(opened) else settings.threads):
        environment = _environment(settings)
        judged = judge(opened, settings, progress)
        with seeded(settings.seed):
            prescription, findings = mend(opened, judged, settings, progress)
    measurements, gaps = judged.measurements, judged.not_measured
    return Report(
        version=__version__,
        seed=settings.seed,
        settings=settings.to_record(),
        environment={
            **environment,
            "times": {"total_seconds": round(time.perf_counter() - started, 3)},
        },
        subject=replace(opened.row, stages=len(measurements.stages)),
        recipe=opened.recipe,
        verdict=judged.verdict,
        cause=cause(findings, judged.verdict, measurements, gaps),
        forecast=judged.forecast,
        measurements=measurements,
        findings=located(findings, opened, measurements),
        prescription=prescription,
        not_measured=gaps,
        notes=(*opened.notes, *notes_on(measurements, settings)),
        unjudged=missing(measurements, gaps),
    )


def _small(opened: Opened) -> bool:
    """Whether operations are so small that sharing them among threads costs more than it saves.

    Decided by size and not by the clock, so that a second run has the same thread count and with it
    the same numbers.
    """
    values = 0
    if opened.batches:
        tensors = (value for _, value in opened.batches[0].named_inputs())
        values = sum(t.numel() for t in tensors if isinstance(t, torch.Tensor))
    return max(opened.row.parameters, values) < _SMALL


def _environment(settings: Settings) -> dict[str, Any]:
    return {
        "gradaudit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": settings.device,
        "threads": torch.get_num_threads(),
    }


@contextmanager
def thread_count(count: int | None) -> Iterator[None]:
    """Run with ``count`` CPU threads, and put the number back."""
    before = torch.get_num_threads()
    if count is not None:
        if count < 1:
            raise UsageError("threads", expected="one or more", found=str(count))
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
