"""Numbers as a person reads them: three figures, powers of ten, intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from gradaudit.records import Estimate, Limit

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS = "−"
LOG10 = "log10 of "  # how units of logarithms start
_ROUNDING = 1e-6  # half-widths below this share of the value are those of float32's arithmetic
_AFTER = ("x ", "operations ", "samples", "weights ", "rehearsed steps")  # units after a number
_ASIDE = re.compile(r"([^,(]+?)(?: \(([^()]*)\)(.*)|, (.*))")  # a unit's name, and what it adds
_NAME_LETTERS = 40
_SMALL, _LARGE = 1e-3, 1e5  # outside, powers of ten read better than zeros


@dataclass(frozen=True)
class Style:
    """How powers of ten are written: ``1.6×10³⁶`` on a page, ``1.6e36`` in a terminal."""

    typographic: bool

    def scientific(self, mantissa: str, exponent: int) -> str:
        """A mantissa times a power of ten."""
        if not self.typographic:
            return f"{mantissa}e{exponent}"
        ten = f"10{superscript(exponent)}"
        return ten if mantissa == "1" else f"{mantissa}×{ten}"


_Writer = Callable[[float, Style], str]

PAGE = Style(True)
TERMINAL = Style(False)


def superscript(exponent: int) -> str:
    """``-12`` as ``⁻¹²``."""
    return str(exponent).translate(_SUPERSCRIPTS)


def number(value: float, style: Style = PAGE) -> str:
    """Three significant figures without idle zeros; whole numbers below 100,000 in full."""
    return _number(value, style, _trim)


def figures(value: float, style: Style = PAGE) -> str:
    """:func:`number` with its zeros, so that columns of numbers line up: ``1.10``."""
    return _number(value, style, str)


def _number(value: float, style: Style, finish: Callable[[str], str]) -> str:
    if value == 0:
        return "0"
    sign = (_MINUS if style.typographic else "-") if value < 0 else ""
    size = abs(value)
    if _SMALL <= size < _LARGE:
        return sign + _plain(size, finish)
    mantissa, exponent = f"{size:.2e}".split("e")
    return sign + style.scientific(finish(mantissa), int(exponent))


def power(log10: float, style: Style = PAGE) -> str:
    """``10**log10`` with two figures, also where that is outside a float's range."""
    if math.log10(_SMALL) <= log10 < math.log10(_LARGE):
        return number(10.0**log10, style)
    exponent = math.floor(log10)
    mantissa = _trim(f"{10 ** (log10 - exponent):.1f}")
    if mantissa == "10":
        mantissa, exponent = "1", exponent + 1
    return style.scientific(mantissa, exponent)


def interval(estimate: Estimate, style: Style = PAGE) -> str:
    """The 95% interval in words; empty where the value is exact, to rounding."""
    return _bounds(estimate, style, figures)


def power_interval(estimate: Estimate, style: Style = PAGE) -> str:
    """:func:`interval` of an estimate that is a decimal logarithm, as plain numbers."""
    return _bounds(estimate, style, power)


def share_interval(estimate: Estimate) -> str:
    """:func:`interval` of an estimate that is a share, in percent."""
    return _bounds(estimate, PAGE, lambda value, _: _fine_percent(value))


@dataclass(frozen=True)
class Amount:
    """An estimate or a limit in words: logarithms undone, so that readers need not."""

    value: str
    interval: str
    unit: str


def amount(measured: Estimate | Limit, style: Style = PAGE) -> Amount:
    """``log10 of gain`` 36.2 becomes ``gain`` 1.6×10³⁶."""
    unit = measured.unit.removeprefix(LOG10)
    log = unit != measured.unit
    write = power if log else number
    bounds = ""
    if isinstance(measured, Estimate):
        bounds = power_interval(measured, style) if log else interval(measured, style)
    return Amount(write(measured.value, style), bounds, unit)


def root_log10(gain: Estimate) -> Estimate:
    """How much a gradient's norm grows, from the log10 of its gain, which counts squares."""
    low, high = (None if end is None else end / 2 for end in (gain.low, gain.high))
    return Estimate(gain.value / 2, low, high, gain.unit)


def root(gain: Estimate) -> Estimate:
    """:func:`root_log10` of a gain that is no logarithm."""
    low, high = (None if end is None else math.sqrt(end) for end in (gain.low, gain.high))
    return Estimate(math.sqrt(gain.value), low, high, gain.unit)


def phrase(
    measured: Estimate, limit: Limit | None = None, style: Style = PAGE, *, before: str = ""
) -> str:
    """``gain 4e8 (3.7e8 to 4.5e8), limit 1e5, as sums of squares``: names first, numbers, rest.

    A unit that counts or compares comes after its number: ``67.4 x the norm of ..., limit 1.1``;
    so does one so long that the number would be lost behind it. ``before`` is what it was.
    """
    size = value(measured, style)
    if before:
        size = f"{before} -> {size}"
    bound = f", limit {amount(limit, style).value}" if limit is not None else ""
    unit = amount(measured).unit.strip()
    if not unit:
        return size + bound
    name, aside = _named(unit)
    if unit.startswith(_AFTER):
        return f"{size} {name}{bound}{aside}"
    if len(name) > _NAME_LETTERS:
        return f"{size}{bound} ({unit})"
    return f"{name} {size}{bound}{aside}"


def _article(aside: str) -> str:
    if "sum" not in aside:
        return ""
    return "as " if aside.startswith("sums") else "as a "


def value(measured: Estimate, style: Style = PAGE) -> str:
    """The number with its interval, and no unit: ``4e8 (3.7e8 to 4.5e8)``."""
    shown = amount(measured, style)
    return f"{shown.value} ({shown.interval})" if shown.interval else shown.value


def _named(unit: str) -> tuple[str, str]:
    """``the gain (sums of squares)`` as ``gain`` and ``, as sums of squares``."""
    found = _ASIDE.fullmatch(unit.removeprefix("the "))
    if found is None:
        return unit, ""
    name, bracketed, after, rest = found.groups()
    if bracketed is None:
        return name, f", {rest}"
    return name, f", {_article(bracketed)}{bracketed}{after}"


def percent(share: float) -> str:
    """``0.873`` as ``87%``; small shares keep a figure."""
    scaled = 100 * share
    if scaled == 0 or scaled >= 9.95:
        return f"{scaled:.0f}%"
    return f"{scaled:.2g}%" if scaled >= _SMALL else f"{number(float(f'{scaled:.2g}'))}%"


def count(value: int) -> str:
    """Parameters as ``1.24 M``; exact below ten thousand."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if value >= size:
            unit = 1000 if letter == "k" else size
            return f"{_trim(_figures(value / unit))} {letter}"
    return f"{value:,}"


def _bounds(estimate: Estimate, style: Style, write: _Writer) -> str:
    low, high = estimate.low, estimate.high
    if low is None and high is None:
        return "no interval"
    if low is None:
        return f"at most {write(high or 0.0, style)}"
    if high is None:
        return f"at least {write(low, style)}"
    if low == high:
        return ""
    joint = " – " if style.typographic else " to "
    first, last = write(low, style), write(high, style)
    if first == last and estimate.value:
        share = max(high - estimate.value, estimate.value - low) / abs(estimate.value)
        if share < _ROUNDING:
            return ""
        half = percent(share)
        return f"± {half}" if style.typographic else f"+/- {half}"
    return f"{first}{joint}{last}"


def _fine_percent(share: float) -> str:
    """Three figures, so that the ends of a short interval differ."""
    return f"{_trim(f'{100 * share:.2f}')}%" if abs(share) >= 1e-3 else percent(share)


def _plain(size: float, finish: Callable[[str], str]) -> str:
    if size == int(size) and finish is _trim:
        return f"{int(size):,}" if size >= 10_000 else str(int(size))
    return finish(_figures(size))


def _figures(size: float) -> str:
    exponent = math.floor(math.log10(size))
    return f"{size:,.0f}" if size >= 10_000 else f"{size:.{max(0, 2 - exponent)}f}"


def _trim(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
