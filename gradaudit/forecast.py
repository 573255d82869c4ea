"""What training will do, from longer training where it was affordable, rehearsal and findings."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.records import Finding, Forecast, Measurements, Outcome, Rehearsal
from gradaudit.rules._judge import broken_by_our_rate, made_up, too_slow
from gradaudit.rules._outlook import Reading, reading

# A plain 30-step rehearsal foresaw 87% (balanced) of a held-back set of 101 recipes; without one,
# growth alone separated 15 nets, which is not enough to claim more. Neither is calibrated yet.
_REHEARSED, _REHEARSED_WEAKLY, _MEASURED_ONLY = 0.87, 0.7, 0.6
_SEEN, _FORESEEN = 0.97, 0.85
_ENOUGH_STEPS = 15  # below it the 87% of a 30-step rehearsal cannot be claimed at all

_DIVERGES = ("GA001", "GA101", "GA201", "GA601", "GA603")
_STALLS = (
    *("GA102", "GA104", "GA202", "GA302", "GA401", "GA402"),
    *("GA501", "GA502", "GA602", "GA607", "GA612"),
)


def forecast(findings: Sequence[Finding], measurements: Measurements) -> Forecast:
    """What training is expected to do: from training itself, then rehearsal, then the findings.

    ``unknown`` without real data: what was not shown cannot be foreseen.
    """
    if made_up(measurements):
        return Forecast("unknown", 0.0)
    failing = tuple(finding.code for finding in findings if finding.severity == "fail")
    read = reading(measurements)
    if read is not None and read.course != "open":
        return _from_training(read, failing)
    return _from_rehearsal(failing, measurements)


def _from_training(read: Reading, failing: Sequence[str]) -> Forecast:
    confidence = _SEEN if read.sure else _FORESEEN
    if read.course == "trains":
        return Forecast("trains", confidence)
    if read.course == "diverges":
        return Forecast("diverges", confidence, _because(failing, _DIVERGES))
    return Forecast("stalls", confidence, _because(failing, _STALLS))


def _from_rehearsal(failing: Sequence[str], measurements: Measurements) -> Forecast:
    rehearsal = measurements.rehearsal
    if broken_by_our_rate(measurements):
        rehearsal = None
    if rehearsal is not None and rehearsal.outcome == "diverges":
        return Forecast("diverges", _REHEARSED, _because(failing, _DIVERGES))
    if rehearsal is None:
        ways: tuple[tuple[Outcome, tuple[str, ...]], ...]
        ways = (("diverges", _DIVERGES), ("stalls", _STALLS))
        for outcome, kind in ways:
            if any(code in kind for code in failing):
                return Forecast(outcome, _MEASURED_ONLY, _because(failing, kind))
        return Forecast("unknown", 0.0)
    if rehearsal.outcome == "falls":
        # What explodes does so within a few steps. Where it did not, a fault that stands keeps the
        # loss from going where a sound net would take it.
        faults = _because(failing, (*_DIVERGES, *_STALLS))
        if faults:
            return Forecast("stalls", _MEASURED_ONLY, faults)
        if too_slow(rehearsal):
            return Forecast("stalls", _MEASURED_ONLY)
        return Forecast("trains", _confidence(rehearsal))
    # A flat start without a fault to explain it may be a slow one.
    confidence = _confidence(rehearsal) if failing else _MEASURED_ONLY
    return Forecast("stalls", confidence, _because(failing, _STALLS))


def _confidence(rehearsal: Rehearsal) -> float:
    """Full only where the rehearsal went past what a constant prediction gets for nothing."""
    sure = rehearsal.beats_constant is True or rehearsal.outcome == "flat"
    if not sure or rehearsal.prescribed or rehearsal.steps < _ENOUGH_STEPS:
        return _REHEARSED_WEAKLY
    return _REHEARSED


def _because(failing: Sequence[str], kind: Sequence[str]) -> tuple[str, ...]:
    """The failing codes that speak for it, else all that fail, once each, in order."""
    chosen = [code for code in failing if code in kind] or list(failing)
    return tuple(dict.fromkeys(chosen))
