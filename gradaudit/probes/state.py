"""Whether a model's weights are a start or learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from gradaudit.probes.initialization import UNKNOWN
from gradaudit.probes.weight_sites import Weights, vectors
from gradaudit.records import LossRow, StateRow, WeightRow
from gradaudit.settings import Settings

_MIN_WEIGHT = 256  # entries below which no law can be ruled out
_MIN_VECTOR = 8
_MIN_DRAW = 64  # entries below which a draw from a normal law cannot be told from learned values
_SHARE = 1 / 3  # of tensors that look learned: a fresh model may have a few of its own making


def judge_state(rows: Sequence[WeightRow], source: Weights, settings: Settings) -> StateRow:
    """``fresh`` or ``trained``; ``settings`` decide unless ``state`` is ``auto``.

    ``rows`` are :func:`gradaudit.probes.weights.measure_weights`'s for ``source``. A weight speaks
    for training if no known initialization fits it; a bias or a normalisation's scale if it is
    neither constant nor looks drawn from the uniform law that torch draws biases from.
    """
    if settings.reinit:
        return StateRow("fresh", "as given by --reinit: they may be drawn anew")
    if settings.state != "auto":
        return StateRow(settings.state, "as given by --state")
    judged = [row for row in rows if _telling(row)]
    learned = [row.parameter for row in judged if row.initialization == UNKNOWN]
    bounds = {row.module: _bias_bounds(row) for row in rows}
    telling = [each for each in vectors(source) if each[2].numel() >= _MIN_VECTOR]
    moved = {name: v for name, module, v in telling if _moved(v, bounds.get(module, ()))}
    if not learned and _one_gaussian([v for v in moved.values() if v.numel() >= _MIN_DRAW]):
        moved = {}
    count, total = len(learned) + len(moved), len(judged) + len(telling)
    if total == 0:
        return StateRow("fresh", "no tensor large enough to tell; taken as a start")
    how = (
        f"{len(learned)} of {len(judged)} weights fit no known initialization, {len(moved)} of "
        f"{len(telling)} biases and scales have moved from where they start"
    )
    if count:
        how += f" (for example {', '.join([*learned, *moved][:2])})"
    return StateRow("trained" if count > _SHARE * total else "fresh", how)


def _telling(row: WeightRow) -> bool:
    return row.finite and row.kind != "other" and math.prod(row.shape) >= _MIN_WEIGHT


def _bias_bounds(row: WeightRow) -> tuple[float, ...]:
    """Ends of torch's uniform law for the biases beside this weight, one per number of gates."""
    if row.kind == "recurrent":  # by the hidden size, which the stacked gates share
        return tuple(math.sqrt(gates / row.shape[0]) for gates in (1, 3, 4))
    inputs = row.fan_in if row.kind == "dense" else math.prod(row.shape[1:])
    return (1 / math.sqrt(inputs),)


def _moved(vector: Tensor, bounds: Sequence[float]) -> bool:
    """Whether ``vector`` is neither constant nor like a draw from one of the uniform laws.

    A draw stays within the bound and has a standard deviation of ``bound / sqrt(3)``, to five
    relative standard errors ``sqrt(0.2 / n)``.
    """
    vector = vector.double()
    lowest, highest = float(vector.min()), float(vector.max())
    if lowest == highest or not math.isfinite(lowest + highest):
        return False
    largest, rms = max(-lowest, highest), float(vector.square().mean().sqrt())
    off = 5 * math.sqrt(0.2 / vector.numel())
    return not any(
        largest <= bound * (1 + 1e-6) and abs(rms / bound * math.sqrt(3) - 1) <= off
        for bound in bounds
    )


def _one_gaussian(vectors: Sequence[Tensor]) -> bool:
    """Whether all ``vectors`` look like draws from one N(0, s^2), as mean-field starts have them.

    Each mean within 4 standard errors of zero, each rms within 4 of the pooled one, no entry
    beyond 6 of it. Training moves layers by different amounts and off zero.
    """
    if len(vectors) < 3:
        return False
    flat = [v.double().flatten() for v in vectors]
    scale = math.sqrt(sum(float(v.square().sum()) for v in flat) / sum(v.numel() for v in flat))
    return scale > 0 and all(
        abs(float(v.mean())) <= 4 * scale / math.sqrt(v.numel())
        and abs(float(v.square().mean().sqrt()) / scale - 1) <= 4 * math.sqrt(0.5 / v.numel())
        and float(v.abs().max()) <= 6 * scale
        for v in flat
    )


def judged_by_loss(state: StateRow, loss: LossRow | None) -> StateRow:
    """The same, or ``trained`` where the loss on real data lies where no start puts it.

    Half of what the best constant prediction costs is out of reach of random weights; small nets
    may learn without a weight leaving the law it was drawn from.
    """
    if state.how.startswith("as given") or loss is None or loss.initial is None:
        return state
    known = [x for x in (loss.constant, loss.chance) if x is not None]
    if not known or loss.initial.value >= 0.5 * min(known):
        return state
    how = f"the loss starts at {loss.initial.value:.3g}, a constant guess costs {min(known):.3g}"
    return StateRow("trained", how)
