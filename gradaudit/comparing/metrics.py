"""The numbers a baseline keeps: how each is read from a report, and which way is worse.

A metric is read from the JSON of a report (``gradaudit.report/1``), so that a run and a file are
held against each other by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gradaudit.comparing.chance import spread, widened_log10, widened_ratio
from gradaudit.comparing.fields import Field
from gradaudit.comparing.scale import Scale
from gradaudit.records import Estimate, Measured

MODEL = "the model"
_OUTCOMES = ("trains", "stalls", "diverges", "unknown")
_LEAST_LOSS, _MOST_LOSS = 0.1, 10.0  # what lies outside is as good, and as bad
_Found = tuple[str, Estimate] | None  # place, number


@dataclass(frozen=True)
class Metric:
    """One number, its name for people, and how two of its values are compared."""

    name: str
    title: str
    scale: Scale
    read: Callable[[Field], _Found]  # from a whole report


def measured(report: Field) -> tuple[Measured, ...]:
    """Every metric that the report holds, in the order of :data:`METRICS`."""
    found = ((metric.name, metric.read(report)) for metric in METRICS)
    return tuple(Measured(name, *pair) for name, pair in found if pair is not None)


def _of_model(*path: str) -> Callable[[Field], _Found]:
    def read(report: Field) -> _Found:
        return _placed(MODEL, report.at("measurements", *path).estimate())

    return read


def _growth_per_stage(report: Field) -> _Found:
    """For another draw of the start the mean of ``n`` stages varies by spread / sqrt(n)."""
    found = report.at("measurements", "trunk", "growth_per_stage").estimate()
    half, stages = spread(report)
    if found is None or stages < 2:  # of one stage it is the gain of the worst
        return None
    return MODEL, widened_ratio(found, half / stages**0.5)


def _interior_growth(report: Field) -> _Found:
    """Without inlet and head: a head may start at zero for a good reason."""
    found = report.at("measurements", "trunk", "interior_growth_log10").estimate()
    half, stages = spread(report)
    return _placed(MODEL, found and widened_log10(found, half * stages**0.5))


def _gsc(report: Field) -> _Found:
    """A ratio of norms, which vary by half as much as the gains, their squares."""
    found = report.at("measurements", "trunk", "gsc").estimate()
    half, stages = spread(report)
    return _placed(MODEL, found and widened_ratio(found, half * stages**0.5 / 2))


def _placed(place: str, estimate: Estimate | None) -> _Found:
    return None if estimate is None else (place, estimate)


def _extreme(found: Iterable[_Found], *, lowest: bool = False) -> _Found:
    """The place of the largest (or lowest) value; among equals the first."""
    sign = -1.0 if lowest else 1.0
    known = [each for each in found if each is not None]
    return max(known, key=lambda each: sign * each[1].value, default=None)


def _worst_stage(report: Field) -> _Found:
    worst = report.at("measurements", "trunk", "worst_stage").whole()
    for stage in report.at("measurements", "stages").items():
        if worst is not None and stage.at("index").whole() == worst:
            return _placed(stage.at("name").text(), stage.at("backward_gain").estimate())
    return None


def _spectral_norm(report: Field) -> _Found:
    """Of the weights that multiply: an embedding's rows are looked up, one at a time."""
    rows = report.at("measurements", "weights").items()
    return _extreme(
        _placed(row.at("parameter").text(), row.at("spectral_norm").estimate())
        for row in rows
        if row.at("kind").text() != "embedding"
    )


def _gradient_norm(report: Field) -> _Found:
    median = report.at("measurements", "gradient_norm", "median").maybe_number()
    if median is None:
        return None
    return MODEL, Estimate(median, None, None, "gradient norm (L2), median over batches")


def _rehearsal_loss(report: Field) -> _Found:
    """Loss at the rehearsal's end over what the best constant prediction costs, 0.1 to 10.

    Where the latter is unknown, over the loss before. It is the mean over the last quarter of the
    steps; a rehearsal that diverged counts as 10.
    """
    rehearsal = report.at("measurements", "rehearsal")
    losses = [each.number() for each in rehearsal.at("losses").items()]
    steps = rehearsal.at("steps").whole()
    if steps is None or not losses:
        return None
    constant = report.at("measurements", "loss", "constant").maybe_number()
    known = constant is not None and constant > 0
    reference = constant if known and constant is not None else losses[0]
    if reference <= 0:
        return None
    last = losses[-max(1, len(losses) // 4) :]
    value = sum(last) / len(last) / reference
    diverged = rehearsal.at("outcome").text() == "diverges"
    if diverged or rehearsal.at("first_nonfinite").given:
        value = _MOST_LOSS
    named = "the best constant prediction's loss" if known else "the loss before"
    unit = f"x {named}, after {steps} rehearsed steps"
    return MODEL, Estimate(min(_MOST_LOSS, max(_LEAST_LOSS, value)), None, None, unit)


def _trains(report: Field) -> _Found:
    outcome = report.at("forecast", "outcome").one_of(_OUTCOMES)
    confidence = report.at("forecast", "confidence").number()
    if outcome == "unknown":
        return None
    value = confidence if outcome == "trains" else 1.0 - confidence
    return MODEL, Estimate(value, None, None, "probability that it trains, by the forecast")


def _share(name: str, unit: str) -> Callable[[Field], _Found]:
    """The largest share among all calls of modules."""

    def read(report: Field) -> _Found:
        shares = (
            (row.at("module").text(), row.at(name).maybe_number())
            for row in report.at("measurements", "modules").items()
        )
        return _extreme(
            (place, Estimate.exact(share, unit)) for place, share in shares if share is not None
        )

    return read


def _entropy(report: Field) -> _Found:
    rows = report.at("measurements", "attention").items()
    return _extreme(
        (_placed(row.at("module").text(), row.at("entropy").estimate()) for row in rows),
        lowest=True,
    )


def _over_time(report: Field) -> _Found:
    """The recurrent layer whose gradient changes most over time, either way."""
    rows = report.at("measurements", "recurrent").items()
    found = [_placed(row.at("module").text(), row.at("growth_log10").estimate()) for row in rows]
    known = [each for each in found if each is not None]
    return max(known, key=lambda each: abs(each[1].value), default=None)


METRICS = (
    Metric(
        "growth_per_stage",
        "growth per stage",
        Scale("ratio", "away"),
        _growth_per_stage,
    ),
    Metric(
        "interior_growth_log10",
        "growth over the inner stages",
        Scale("difference", "away"),
        _interior_growth,
    ),
    Metric("worst_stage_gain", "gain of the worst stage", Scale("ratio", "away"), _worst_stage),
    Metric("gsc", "GSC of the trunk", Scale("ratio", "away"), _gsc),
    Metric("time_growth_log10", "growth over time", Scale("difference", "away"), _over_time),
    Metric("largest_spectral_norm", "largest spectral norm", Scale("ratio", "up"), _spectral_norm),
    Metric("gradient_norm", "gradient norm", Scale("ratio", "up"), _gradient_norm),
    Metric("sharpness", "sharpness", Scale("ratio", "up"), _of_model("curvature", "sharpness")),
    Metric("noise_scale", "gradient noise scale", Scale("ratio", "up"), _of_model("noise_scale")),
    Metric("rehearsal_loss", "loss after the rehearsal", Scale("ratio", "up"), _rehearsal_loss),
    Metric("trains", "forecast", Scale("difference", "down"), _trains),
    Metric(
        "clip_rate", "clip rate", Scale("difference", "up"), _of_model("rehearsal", "clip_rate")
    ),
    Metric(
        "dead_fraction",
        "largest share of dead units",
        Scale("difference", "up"),
        _share("dead_fraction", "share of units"),
    ),
    Metric(
        "saturated_fraction",
        "largest share of saturated outputs",
        Scale("difference", "up"),
        _share("saturated_fraction", "share of outputs"),
    ),
    Metric("attention_entropy", "lowest attention entropy", Scale("difference", "down"), _entropy),
)
