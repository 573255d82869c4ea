"""What the rules about half precision share."""

from __future__ import annotations

import math

from gradaudit.records import HalfRow, Measurements, Precision

# Rounding two factors to the 11 bits of fp16 moves their product by no more than this share.
ROUNDING = 2.0**-10


def trained_in(measurements: Measurements, form: str) -> tuple[Precision, HalfRow] | None:
    """The forecast for ``form``, where that is the format the recipe or the weights ask for."""
    precision = measurements.precision
    if precision is None or precision.judged != form:
        return None
    row = next((each for each in precision.formats if each.format == form), None)
    return None if row is None else (precision, row)


def scale_name(scale: float) -> str:
    """A loss scale for people: ``4096``, ``2^-5``, ``2^40``."""
    power = round(math.log2(scale))
    return f"{scale:.0f}" if 0 <= power <= 20 else f"2^{power}"
