"""The whole audit as one frozen record, and its JSON form (the ``gradaudit.report/1`` contract)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradaudit.errors import UsageError, VerdictError
from gradaudit.records.comparison import Comparison
from gradaudit.records.complaint import complaint
from gradaudit.records.estimate import NotMeasured
from gradaudit.records.findings import Finding, Forecast, Verdict
from gradaudit.records.measurements import Measurements, StageRow
from gradaudit.records.outcome import FAIL_ON, FailOn, exit_code, held
from gradaudit.records.proof import Prescription
from gradaudit.records.recipe import Recipe

SCHEMA = "gradaudit.report/1"

# JSON names that Python cannot use as attribute names.
_RENAMED: dict[tuple[type, str], str] = {(StageRow, "start"): "from"}


@dataclass(frozen=True)
class SubjectRow:
    """What was audited."""

    source: str  # as the user named it
    format: str  # "code" | "pickled module" | "state dict" | "safetensors" | ...
    digest: str  # sha256 of the file, or of the weights where there is no file
    parameters: int
    modules: int
    stages: int
    name: str = ""  # the model's class
    file: str = ""  # of the code that makes the model, where there is one
    line: int | None = None


@dataclass(frozen=True)
class Report:
    """One audit, complete."""

    version: str
    seed: int
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    subject: SubjectRow
    recipe: Recipe
    verdict: Verdict
    cause: str  # one sentence: the verdict and its reason in the user's words
    forecast: Forecast
    measurements: Measurements
    findings: tuple[Finding, ...]
    prescription: Prescription | None
    not_measured: tuple[NotMeasured, ...]
    notes: tuple[str, ...] = ()  # what the audit chose for the user, said aloud
    comparison: Comparison | None = None  # with the baseline, where one was given
    unjudged: str = ""  # why no verdict could be given, had no finding failed

    @property
    def outcome(self) -> Verdict:
        """What a gate goes by: the verdict, or with a baseline what is new or worse since."""
        unknown = self.unjudged and self.comparison is not None
        return held("inconclusive" if unknown else self.verdict, self.comparison)

    def raise_for_verdict(self, fail_on: FailOn = "fail") -> None:
        """Raise :class:`gradaudit.VerdictError` where the command would end in 1 or 3.

        ``fail_on`` is the least verdict that counts, as ``--fail-on`` has it: ``"fail"``,
        ``"warn"`` or ``"never"``. A report that is inconclusive raises as well, unless never. The
        message names cause, findings with their numbers, and the first change to make.
        """
        __tracebackhide__ = True  # pytest shows the caller's line, not this one
        if fail_on not in FAIL_ON:
            known = ", ".join(repr(each) for each in FAIL_ON)
            raise UsageError("fail_on", expected=known, found=repr(fail_on))
        code = exit_code(self.outcome, fail_on)
        if code:
            raise VerdictError(complaint(self, self.outcome, fail_on), code)

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract of ``gradaudit.report/1`` as plain dicts, lists and finite numbers."""
        measurements = plain(self.measurements)
        del measurements["recipe"]
        return {
            "schema": SCHEMA,
            "tool": {"name": "gradaudit", "version": self.version},
            "seed": self.seed,
            "settings": plain(self.settings),
            "environment": plain(self.environment),
            "subject": plain(self.subject),
            "recipe": plain(self.recipe),
            "verdict": self.verdict,
            "cause": self.cause,
            "forecast": plain(self.forecast),
            "measurements": measurements,
            "findings": [plain(finding) for finding in self.findings],
            "prescription": plain(self.prescription),
            "not_measured": [plain(item) for item in self.not_measured],
            "notes": list(self.notes),
            "comparison": plain(self.comparison),
            "outcome": self.outcome,
        }


def plain(value: Any) -> Any:
    """Turn records into JSON's own types; raises ``ValueError`` on NaN or infinity."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            _RENAMED.get((type(value), f.name), f.name): plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a report holds finite numbers, not {value}")
    return value
