"""The models of a run held against a baseline, and a baseline made of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradaudit.comparing.compare import compare
from gradaudit.comparing.files import Kept, baseline_text, model_key, read_models
from gradaudit.comparing.snapshots import snapshot
from gradaudit.errors import UnreadableFile
from gradaudit.records import Limit, Report, Run, Snapshot
from gradaudit.telling import listed, printable


@dataclass(frozen=True)
class Baseline:
    """What was accepted earlier, model by model."""

    file: str
    models: Mapping[str, Kept]

    def held_against(
        self, report: Report, name: str, names: Sequence[str], tolerances: Mapping[str, Limit]
    ) -> Report:
        """The report of the model called ``name`` with its comparison.

        ``names`` are all models of this run. One alone is held against the one model of a baseline
        whatever either is called.
        """
        before = self._model(name, alone=len(names) == 1)
        comparison = compare(before, snapshot(report), self.file, tolerances)
        left = self._left(names) if name == names[0] else ""
        if left:
            comparison = replace(comparison, stale=(*comparison.stale, left))
        return replace(report, comparison=comparison)

    def _model(self, name: str, *, alone: bool) -> Snapshot | None:
        kept = self.models.get(model_key(name))
        if kept is None and alone and len(self.models) == 1:
            (kept,) = self.models.values()
        return kept if isinstance(kept, Snapshot) else None

    def _left(self, names: Sequence[str]) -> str:
        """The sentence about models that are in the baseline only."""
        if len(names) == 1 and len(self.models) == 1:
            return ""
        left = sorted(set(self.models) - {model_key(name) for name in names})
        if not left:
            return ""
        called = listed([printable(name, 80) for name in left])
        return (
            f"In the baseline, and not in this run: {called}; audit all its models together, or "
            "write it anew with --write-baseline."
        )


def read_baseline(file: str) -> Baseline:
    """The baseline, or report, in ``file``.

    Raises a :class:`gradaudit.errors.GradauditError` where there is none or it is damaged.
    """
    if not Path(file).exists():
        raise UnreadableFile(
            f"no such baseline: {file}", next_step=f"make it with --write-baseline {file}"
        )
    return Baseline(file, read_models(file))


def baseline_of(report: Report, name: str, file: str) -> Baseline:
    """The baseline, to be written to ``file``, in which everything found now is accepted."""
    return Baseline(file, {model_key(name): snapshot(report)})


def render(run: Run) -> str:
    """The baseline of all models of ``run``."""
    models = {
        model_key(each.name): snapshot(each.report)
        for each in run.audits
        if each.report is not None
    }
    return baseline_text(models, run.version)
