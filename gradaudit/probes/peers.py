"""A weight beside those that play the same part in other layers."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from gradaudit.records import WeightRow

FEWEST = 4  # layers of which one can be told to be unlike the others
_NUMBER = re.compile(r"(?<![A-Za-z])\d+(?=\.|$)")


def beside_peers(rows: Sequence[WeightRow]) -> tuple[WeightRow, ...]:
    """``rows`` with ``peer_ratio``: the rms over the median rms of the weights of the same part.

    Those have the same name but for the numbers in its path (``layers.3.mlp.up.weight``), the same
    kind and shape, hence the same fan-in, so the ratio is that of ``rms sqrt(fan_in)``. Weights of
    zeros, and groups of fewer than four, are left out.
    """
    groups: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for row in rows:
        if _comparable(row):
            groups[_part(row)].append(row.rms)
    middle = {part: median(found) for part, found in groups.items() if len(found) >= FEWEST}
    return tuple(
        replace(row, peer_ratio=row.rms / middle[_part(row)], peers=len(groups[_part(row)]))
        if _comparable(row) and _part(row) in middle
        else row
        for row in rows
    )


def _comparable(row: WeightRow) -> bool:
    return row.finite and 0 < row.rms < math.inf


def _part(row: WeightRow) -> tuple[object, ...]:
    return _NUMBER.sub("#", row.parameter), row.kind, row.shape
