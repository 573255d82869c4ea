"""How far numbers may move from a baseline before they count as worse, and where that comes from.

A number is worse once its interval no longer meets the baseline's *and* it moved by more than its
tolerance. A share of the value before holds both ways as a quotient: 0.1 allows 1.1 times as much.
Keys are the metrics' names; in ``[tool.gradaudit.tolerances]`` with ``-`` for ``_``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gradaudit.errors import UsageError
from gradaudit.records import Limit
from gradaudit.telling import did_you_mean

_SPREAD = (
    "what 20 starts of one model differ by, in 7 small nets (tests/benchmarks/baseline_noise.py)"
)
_SHARE = "share of the value before"

TOLERANCES: Mapping[str, Limit] = {
    "growth_per_stage": Limit(
        0.1, _SHARE, "10% a stage is a factor 10 in 24 stages, and within its interval by chance"
    ),
    "interior_growth_log10": Limit(1.0, "log10 of the gain", _SPREAD),
    "time_growth_log10": Limit(1.0, "log10 of the gain", _SPREAD),
    "exponent": Limit(0.2, "share of the exponent of a growth, where that is more", _SPREAD),
    "worst_stage_gain": Limit(1.0, _SHARE, _SPREAD),
    "gsc": Limit(4.0, _SHARE, _SPREAD),
    "largest_spectral_norm": Limit(0.35, _SHARE, _SPREAD),
    "gradient_norm": Limit(2.5, _SHARE, _SPREAD),
    "sharpness": Limit(7.0, _SHARE, _SPREAD),
    "noise_scale": Limit(15.0, _SHARE, _SPREAD),
    "rehearsal_loss": Limit(0.35, _SHARE, _SPREAD),
    "trains": Limit(0.4, "probability", _SPREAD),
    "clip_rate": Limit(0.1, "share of steps", _SPREAD),
    "dead_fraction": Limit(0.25, "share of units", _SPREAD),
    "saturated_fraction": Limit(0.1, "share of outputs", _SPREAD),
    "attention_entropy": Limit(0.1, "share of ln(keys allowed)", _SPREAD),
    "finding": Limit(0.5, "share of a known finding's value", _SPREAD),
    "finding_share": Limit(0.15, "of a known finding's value, where that is a share", _SPREAD),
}


def with_tolerances(
    given: Mapping[str, float | Limit], source: str = "set by the user"
) -> dict[str, Limit]:
    """All tolerances with the given ones in them; names may have ``-`` for ``_``.

    Raises ``UsageError`` for an unknown name, and for what is no number from 0 on.
    """
    found = dict(TOLERANCES)
    for written, value in given.items():
        name = written.replace("-", "_")
        if name not in found:
            known = [each.replace("_", "-") for each in found]
            hint = did_you_mean(name.replace("_", "-"), known)
            raise UsageError(f"no tolerance is called {written!r}", next_step=hint)
        if isinstance(value, Limit):
            found[name] = value
            continue
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise UsageError(
                f"the tolerance {written} cannot be that",
                expected="a number, 0 or more",
                found=repr(value),
            )
        before = found[name]
        stated = f"{source}, instead of {before.value:g}: {before.source}"
        found[name] = Limit(float(value), before.unit, stated)
    return found
