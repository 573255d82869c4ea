"""How rules judge: an interval against a limit, and what the rehearsal has to say about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from gradaudit.records import Estimate, Limit, Measurements, Rehearsal, Severity
from gradaudit.rules._outlook import reading

Standing = Literal["past", "straddles", "within"]
_ADAPTIVE = ("adam", "rmsprop", "adagrad", "adadelta", "lion", "lamb", "adafactor", "muon")
_HALFWAY = 0.5
_LOWER: dict[Severity, Severity] = {"fail": "warn", "warn": "note", "note": "note"}


class Judged(NamedTuple):
    """A severity, and the limit that decided it."""

    severity: Severity
    limit: Limit


def standing(measured: Estimate, limit: Limit, *, above: bool = True) -> Standing:
    """Where an interval lies: ``past`` only as a whole, ``within`` only as a whole.

    A side that is unknown could lie anywhere. ``above`` says which side of the limit is bad.
    """
    near, far = (measured.low, measured.high) if above else (measured.high, measured.low)
    sign = 1.0 if above else -1.0
    if near is not None and sign * near > sign * limit.value:
        return "past"
    if far is not None and sign * far <= sign * limit.value:
        return "within"
    return "straddles"


def judge(measured: Estimate, *, warn: Limit, fail: Limit, above: bool = True) -> Judged | None:
    """Hold an interval against two limits; a straddled ``warn`` limit is a note."""
    if standing(measured, fail, above=above) == "past":
        return Judged("fail", fail)
    at_warn = standing(measured, warn, above=above)
    if at_warn == "past":
        return Judged("warn", warn)
    return Judged("note", warn) if at_warn == "straddles" else None


def lower(severity: Severity) -> Severity:
    """One step milder."""
    return _LOWER[severity]


def made_up(measurements: Measurements) -> bool:
    """Whether there was no real sample: numbers about data and training mean nothing then."""
    sample = measurements.sample
    return sample.source not in ("given", "carried") or sample.target == "made up"


def contradicted(measurements: Measurements) -> bool:
    """Whether training, or its rehearsal, went well: no number from the start outweighs that.

    "Trained" means that the loss fell clearly below what the best constant prediction costs, which
    needs gradients that work (also on made-up targets: those can only be learned by heart).
    """
    read = reading(measurements)
    if read is not None and read.course != "open":
        return read.course == "trains"
    rehearsal = measurements.rehearsal
    return (
        rehearsal is not None and rehearsal.outcome == "falls" and rehearsal.beats_constant is True
    )


def broken_by_our_rate(measurements: Measurements) -> bool:
    """Whether the rehearsal diverged under a prescribed rate: that shows no fault of the model's.

    Lower rates did not let the loss fall either, so what training would do is not known. A loss
    that is at its lowest from the start ends here too.
    """
    rehearsal = measurements.rehearsal
    return rehearsal is not None and rehearsal.prescribed and rehearsal.outcome == "diverges"


def learned(measurements: Measurements) -> bool:
    """Whether the weights already work: trained, and not shown worse than a constant guess.

    A loss on made-up data says nothing about them.
    """
    if measurements.state.state != "trained":
        return False
    loss = measurements.loss
    if made_up(measurements) or loss is None or loss.initial is None:
        return True
    baseline = loss.constant if loss.constant is not None else loss.chance
    return baseline is None or loss.initial.value < baseline


def too_slow(rehearsal: Rehearsal) -> bool:
    """Whether the recipe's steps, at the measured slope, fall short of halfway to zero loss.

    Halfway is what the forecast means by a stall.
    """
    slope = rehearsal.projected_fall
    return slope is not None and slope < _HALFWAY and rehearsal.beats_constant is not True


def is_adaptive(optimizer: str) -> bool:
    """Whether the optimizer divides by the gradient's own size."""
    return any(name in optimizer.lower() for name in _ADAPTIVE)


def optimizer_in_use(measurements: Measurements) -> str:
    """The optimizer that was given, else the one that was rehearsed with; "" where neither is."""
    rehearsal = measurements.rehearsal
    return measurements.recipe.optimizer or (rehearsal.optimizer if rehearsal else "")


def softened(severity: Severity, measurements: Measurements) -> Severity:
    """One step milder where training, done or rehearsed, shows that it can be lived with."""
    if contradicted(measurements) or learned(measurements):
        return lower(severity)
    return severity


def all_the_same(measurements: Measurements) -> str:
    """A closing sentence for a finding that was softened, or nothing."""
    if contradicted(measurements):
        return " The rehearsal trains all the same, so this does not fail the audit."
    if learned(measurements):
        return " The weights are learned and evidently work, so this does not fail the audit."
    return ""


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share observed among ``count`` units (Wilson 1927)."""
    if count < 1:
        return 0.0, 1.0
    spread = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    centre, scale = share + z * z / (2 * count), 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def power(log10: float) -> str:
    """A factor for people: ``3.2``, ``450``, ``2e4``, ``10^14``."""
    if -3 < log10 < 4:
        return number(10.0**log10)
    exponent = math.floor(log10)
    digit = round(10 ** (log10 - exponent))
    if digit in (1, 10):
        return f"10^{exponent + digit // 10}"
    return f"{digit}e{exponent}"


def number(value: float) -> str:
    """A number for people: three digits, no exponent where it can be read without."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def listed(names: Sequence[str], show: int = 3) -> str:
    """``a``, ``b`` and 4 more."""
    shown = [f"`{name}`" for name in names[:show]]
    rest = len(names) - len(shown)
    if rest:
        return f"{', '.join(shown)} and {rest} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def plural(count: int, noun: str) -> str:
    """``1 layer``, ``3 layers``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
