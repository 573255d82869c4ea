"""Whether a measured growth lies near one of its limits, so that more probes would tell."""

from __future__ import annotations

import math

from gradaudit.records import Estimate, TrunkRow
from gradaudit.settings import Settings

# Times as many probes near a limit: with eight times the interval is a third as wide.
MORE_WHERE_CHEAP = 8
NEAR = 2.0  # half-widths: where the interval ends hangs on the random numbers itself
MORE = 2  # where a probe costs a third of a training step: quick has twelve of them to spend


def probes_to_spend(probes: int, *, cheap: bool) -> int:
    """How many probes to go up to where the first ``probes`` of them leave a limit open."""
    return probes * (MORE_WHERE_CHEAP if cheap else MORE)


def undecided(trunk: TrunkRow, settings: Settings) -> bool:
    """Whether the total growth, or the GSC, is within :data:`NEAR` half-widths of a limit."""
    total, gsc = trunk.total_growth_log10, trunk.gsc
    return any(
        _near(total, math.log10(settings.limit(f"growth_{end}").value))
        or _near(gsc, settings.limit(f"gsc_{end}").value)
        for end in ("min", "max")
    )


def _near(measured: Estimate | None, limit: float) -> bool:
    if measured is None or measured.low is None or measured.high is None:
        return False
    below, above = measured.value - measured.low, measured.high - measured.value
    return measured.value - NEAR * below <= limit < measured.value + NEAR * above
