"""Any convolution's norm is within 1%, and its interval holds the truth.

``tests/benchmarks/convolutions.py`` does the same for a thousand and more.
"""

from __future__ import annotations

from hypothesis import given, settings

from tests.probes.convolution_shapes import Case, errors, modules

ROUNDING = 1e-9


@given(modules())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_convolution_lies_in_its_interval(case: Case) -> None:
    off, above, below = errors(case)
    assert off <= 0.01
    assert above <= ROUNDING
    assert below <= ROUNDING
