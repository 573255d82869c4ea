"""Whether a model's weights are a start or learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradaudit.probes.initialization import UNKNOWN
from gradaudit.probes.vector_looks import VectorLook, look_at_vectors
from gradaudit.probes.weight_sites import Weights
from gradaudit.records import LossRow, StateRow, WeightRow
from gradaudit.settings import Settings

_MIN_WEIGHT = 256  # entries below which no law can be ruled out
_MIN_VECTOR = 8
_MIN_DRAW = 64  # entries below which a draw from a normal law cannot be told from learned values
_SHARE = 1 / 3  # of tensors that look learned: a fresh model may have a few of its own making


def judge_state(rows: Sequence[WeightRow], source: Weights, settings: Settings) -> StateRow:
    """``fresh`` or ``trained``, by ``rows``,
    :func:`gradaudit.probes.weights.measure_weights`'s for ``source``, and its vectors.
    """
    return judge_looks(rows, list(look_at_vectors(source)), settings)


def judge_looks(
    rows: Sequence[WeightRow], looks: Sequence[VectorLook], settings: Settings
) -> StateRow:
    """``fresh`` or ``trained``; ``settings`` decide unless ``state`` is ``auto``.

    A weight speaks for training if no known initialization fits it; a bias or a normalisation's
    scale if it is neither constant nor looks drawn from the uniform law that torch draws biases
    from.
    """
    if settings.reinit:
        return StateRow("fresh", "as given by --reinit: they may be drawn anew")
    if settings.state != "auto":
        return StateRow(settings.state, "as given by --state")
    judged = [row for row in rows if _telling(row)]
    learned = [row.parameter for row in judged if row.initialization == UNKNOWN]
    bounds = {row.module: _bias_bounds(row) for row in rows}
    telling = [look for look in looks if look.count >= _MIN_VECTOR]
    moved = {v.name: v for v in telling if _moved(v, bounds.get(v.module, ()))}
    if not learned and _one_gaussian([v for v in moved.values() if v.count >= _MIN_DRAW]):
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


def _moved(vector: VectorLook, bounds: Sequence[float]) -> bool:
    """Whether ``vector`` is neither constant nor like a draw from one of the uniform laws.

    A draw stays within the bound and has a standard deviation of ``bound / sqrt(3)``, to five
    relative standard errors ``sqrt(0.2 / n)``.
    """
    if vector.lowest == vector.highest or not vector.finite:
        return False
    off = 5 * math.sqrt(0.2 / vector.count)
    return not any(
        vector.largest <= bound * (1 + 1e-6) and abs(vector.rms / bound * math.sqrt(3) - 1) <= off
        for bound in bounds
    )


def _one_gaussian(vectors: Sequence[VectorLook]) -> bool:
    """Whether all ``vectors`` look like draws from one N(0, s^2), as mean-field starts have them.

    Each mean within 4 standard errors of zero, each rms within 4 of the pooled one, no entry
    beyond 6 of it. Training moves layers by different amounts and off zero.
    """
    if len(vectors) < 3:
        return False
    total = sum(v.count * v.rms**2 for v in vectors)
    scale = math.sqrt(total / sum(v.count for v in vectors))
    return scale > 0 and all(
        abs(v.mean) <= 4 * scale / math.sqrt(v.count)
        and abs(v.rms / scale - 1) <= 4 * math.sqrt(0.5 / v.count)
        and v.largest <= 6 * scale
        for v in vectors
    )


def judged_by_file(state: StateRow, said: str) -> StateRow:
    """The same, or ``trained`` where the file itself says so in ``said``."""
    if state.how.startswith("as given") or not said:
        return state
    return StateRow("trained", said)


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
