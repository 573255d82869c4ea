"""One subject measured and judged: everything an audit knows before it looks for a cure."""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.forecast import forecast
from gradaudit.gate import verdict
from gradaudit.measure import measure
from gradaudit.pacing import Progress
from gradaudit.records import Finding, Forecast, Measurements, NotMeasured, Verdict
from gradaudit.rules import run_rules
from gradaudit.settings import Settings
from gradaudit.subject import Opened, seeded


@dataclass(frozen=True)
class Judged:
    """Measurements and what was concluded from them."""

    measurements: Measurements
    not_measured: tuple[NotMeasured, ...]
    findings: tuple[Finding, ...]
    verdict: Verdict
    forecast: Forecast

    @property
    def ill(self) -> bool:
        """Whether a cure is called for."""
        return self.verdict == "fail" or self.forecast.outcome in ("stalls", "diverges")


def judge(opened: Opened, settings: Settings, progress: Progress) -> Judged:
    """Run the probes, the rules and the forecast; the model comes back bit-identical.

    What a model draws on its way (dropout, noise, a layer left out) comes from ``settings.seed``
    too, whatever was drawn in this process before.
    """
    with seeded(settings.seed):
        measurements, gaps = measure(opened, settings, progress)
    progress("judging")
    findings = run_rules(measurements, settings)
    return Judged(
        measurements,
        gaps,
        findings,
        verdict(findings, measurements, gaps, settings),
        forecast(run_rules(measurements, settings.undemanded()), measurements),
    )
