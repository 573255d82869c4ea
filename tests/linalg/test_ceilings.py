"""The bound from the random start against its closed form."""

from __future__ import annotations

import math

import pytest

from gradaudit.linalg.ceilings import likely_ceiling


def test_the_ceiling_is_the_published_one() -> None:
    """After two steps: the root of (t - a)(t - b) = product of couplings over component."""
    ceiling = likely_ceiling([3.0, 1.0], [0.5, 0.01], 50, 0.01)
    component = 0.01 * math.sqrt(math.pi / 100)
    product = 0.5 * 0.01 / component
    assert ceiling == pytest.approx(2 + math.sqrt(1 + product), rel=1e-3)
    assert likely_ceiling([3.0, 1.0], [0.5, 0.0], 50, 0.01) == 3.0
