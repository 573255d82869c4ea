"""Two runs side by side: what ``gradaudit diff`` tells."""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.records.comparison import Comparison
from gradaudit.records.findings import Verdict
from gradaudit.records.run import worst_code


@dataclass(frozen=True)
class Compared:
    """One model of both runs."""

    name: str  # as in the newer run
    comparison: Comparison | None  # None where the newer run could not audit it
    verdict: Verdict | None  # of the newer audit
    exit_code: int  # as the gate's: only what is new or worse counts
    error: str = ""  # why it could not be audited, one line


@dataclass(frozen=True)
class Difference:
    """All models of the newer run, and what they are held against."""

    version: str
    old: str  # files, as named
    new: str
    models: tuple[Compared, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The worst of all models, as of a run."""
        return worst_code(each.exit_code for each in self.models)
