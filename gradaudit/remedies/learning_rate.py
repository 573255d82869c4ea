"""The learning rate that the rehearsal or the range test sustained, else the curvature's.

Only where nothing but the rate is at fault: a rate found on data or start values that another
remedy changes is that of the faulty net, orders of magnitude off for the mended one. Audit again
once they are changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._code import rounded
from gradaudit.remedies._layers import codes
from gradaudit.rules._judge import is_adaptive, made_up, optimizer_in_use
from gradaudit.rules.learning_rate_below_floor import steepest_rate
from gradaudit.settings import Settings

ORDER = 60

_ANSWERS = ("GA601", "GA602", "GA604")
# A loss that leaves in the rehearsal is what too high a rate does, and no fault beside it. (Numbers
# that are not finite before the first step leave no rate to choose.)
_SYMPTOMS = ("GA001", "GA603")
_REHEARSED = "the loss fell under it in a rehearsal"
_RANGE = "where the loss fell fastest in a range test"
_OPEN_RANGE = "a tenth of where the loss fell fastest in a range test that met no ceiling"
CURVATURE = "half of what the curvature at the start bears"
_MARGIN = 0.5  # the ceiling is where a quadratic neither grows nor shrinks
# Without a ceiling the steepest rate is often the last one tried. It had one step to go wrong in.
_OPEN_MARGIN = 0.1
# One step at each rate cannot show where Adam's steps, all of the rate's size, stop adding up.
ADAPTIVE_MOST = 1e-2  # UMLAUT warns above it
_LOWER = 1 / 3  # of a rate that was seen to be too high, whatever the range test says
CLASSES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy: for a rate that was judged wrong, and where none was given on real data."""
    answered = codes(findings) & set(_ANSWERS)
    unsaid = measurements.recipe.lr is None and not made_up(measurements)
    if (not answered and not unsaid) or others_fail(findings):
        return
    chosen = choose(measurements)
    if chosen is None:
        return
    rate, basis = rounded(_bounded(chosen[0], answered, measurements)), chosen[1]
    if "GA602" in answered and rate <= (measurements.recipe.lr or 0.0):
        return  # with its margins no higher than the rate that is too low
    name = optimizer_of(measurements)
    parameters: dict[str, object] = {"lr": rate, "basis": basis}
    if measurements.recipe.optimizer is None and name in CLASSES:
        parameters["optimizer"] = name
    yield Remedy(
        "learning-rate",
        "recipe",
        f"Train with {CLASSES.get(name, name or 'your optimizer')} at a learning rate of {rate} "
        f"({basis}).",
        parameters,
        _code(measurements, name, rate),
        "recipe only",
        _ANSWERS,
    )


def _bounded(rate: float, answered: set[str], measurements: Measurements) -> float:
    given = measurements.recipe.lr
    if given is not None and "GA601" in answered:
        rate = min(rate, given * _LOWER)
    return rate


def others_fail(findings: Sequence[Finding]) -> bool:
    """Whether a fault beside the rate's own findings and symptoms may be what it breaks on."""
    excused = (*_ANSWERS, *_SYMPTOMS)
    return any(f.severity == "fail" and f.code not in excused for f in findings)


def choose(measurements: Measurements) -> tuple[float, str] | None:
    """A rate and what it rests on: a rehearsal first, then the range test, then the curvature."""
    rehearsal = measurements.rehearsal
    if rehearsal is not None and rehearsal.outcome == "diverges" and rehearsal.rescued_by_rate:
        return rehearsal.rescued_by_rate, _REHEARSED
    ranged, fell = _from_range(measurements), None
    if rehearsal is not None and rehearsal.outcome == "falls" and rehearsal.rates:
        fell = rehearsal.rates[-1]
    # Without a given rate the rehearsal is lowered until its loss falls.
    if fell is not None and ranged is not None and measurements.recipe.lr is None:
        return min((fell, _REHEARSED), ranged, key=lambda choice: choice[0])
    if ranged is not None:
        return ranged
    if fell is not None:
        return fell, _REHEARSED
    curvature, given = measurements.curvature, measurements.recipe.lr
    bears = None if curvature is None else curvature.rate_ceiling
    if bears is None:
        return None
    rate = _MARGIN * (bears.value if bears.low is None else bears.low)
    # a curvature that bears the given rate has nothing to say against it
    return (rate, CURVATURE) if rate > 0 and (given is None or rate < given) else None


def _from_range(measurements: Measurements) -> tuple[float, str] | None:
    """The rate of steepest fall, with a margin for what one step at each rate does not show."""
    best, found = steepest_rate(measurements), measurements.rate_range
    if best is None or found is None:
        return None
    if found.ceiling is None:
        rate, basis = _OPEN_MARGIN * best, _OPEN_RANGE
    else:
        rate, basis = min(best, found.ceiling / 2), _RANGE
    if is_adaptive(optimizer_of(measurements)):
        rate = min(rate, ADAPTIVE_MOST)
    momentum = measurements.recipe.momentum
    if momentum and momentum < 1:
        # Steps add up to 1 / (1 - momentum) of their length, but one at each rate does not.
        return rate * (1 - momentum), basis + ", times 1 - momentum"
    return rate, basis


def optimizer_of(measurements: Measurements) -> str:
    """The one given, else the one that was rehearsed with, by the contract's name."""
    ranged = measurements.rate_range
    return (optimizer_in_use(measurements) or (ranged.optimizer if ranged else "")).lower()


def _code(measurements: Measurements, name: str, rate: float) -> str:
    if measurements.recipe.optimizer is not None or name not in CLASSES:
        return (
            "# `optimizer` is your torch.optim.Optimizer.\n"
            "for group in optimizer.param_groups:\n"
            f'    group["lr"] = {rate!r}\n'
        )
    return (
        "# `model` is your torch.nn.Module.\n"
        "import torch\n"
        "\n"
        f"optimizer = torch.optim.{CLASSES[name]}(model.parameters(), lr={rate!r})\n"
    )
