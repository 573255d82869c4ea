"""What became of each finding since the baseline, and why that counts as it does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from gradaudit.comparing.pairing import pairs
from gradaudit.comparing.scale import Scale, decades, factor, quotient
from gradaudit.records import SEVERITIES, Change, Estimate, FindingChange, Known, Limit
from gradaudit.reports.numbers import LOG10, TERMINAL, amount, phrase
from gradaudit.reports.text import plural

_ALIKE = 0.01  # values of one layer under two names differ by rounding only


def changed_findings(
    before: Sequence[Known], now: Sequence[Known], tolerances: Mapping[str, Limit]
) -> tuple[FindingChange, ...]:
    """Every finding of either side, once."""
    known: dict[str, list[Known]] = defaultdict(list)
    for each in before:
        known[each.code].append(each)
    changes = [_change(old, new, tolerances) for old, new in pairs(before, now)]
    spilled = [_spilled(change, known, tolerances) for change in changes]
    # chance adds a few places to many, and not many to a few: then all of them are news
    more = Counter(o.known.code for o, s in zip(changes, spilled, strict=True) if s is not o)
    few = {code for code, count in more.items() if count <= len(known[code])}
    return tuple(
        _renamed([s if o.known.code in few else o for o, s in zip(changes, spilled, strict=True)])
    )


def _change(old: Known | None, new: Known | None, tolerances: Mapping[str, Limit]) -> FindingChange:
    if old is None or new is None:
        if new is None:
            return FindingChange("fixed", old, None, "It is no longer found.")
        return FindingChange("new", None, new, f"It was not there before: {_value(new)}.")
    moved = f" (then at {old.place})" if old.place != new.place else ""
    if old.severity != new.severity:
        worse = SEVERITIES.index(new.severity) < SEVERITIES.index(old.severity)
        why = f"It was a {old.severity}, now it is a {new.severity}: {_values(old, new)}{moved}."
        return FindingChange("worse" if worse else "better", old, new, why)
    turn, allowed = _turn(old, new, tolerances)
    why = {
        "worse": f"It went further past its limit, by more than its interval and {allowed}",
        "better": f"It came closer to its limit, by more than its interval and {allowed}",
        "unchanged": f"Within its interval or {allowed}",
    }[turn]
    return FindingChange(turn, old, new, f"{why}: {_values(old, new)}{moved}.")


def _turn(old: Known, new: Known, tolerances: Mapping[str, Limit]) -> tuple[Change, str]:
    """How the value moved, and in words how far it may."""
    if old.measured is None or new.measured is None or old.measured.unit != new.measured.unit:
        return "unchanged", "not comparable, for it is measured otherwise"
    scale, tolerance, words = _held_to(old, new, new.measured, tolerances)
    return scale.turn(old.measured, new.measured, tolerance), words


def _held_to(
    old: Known, new: Known, measured: Estimate, tolerances: Mapping[str, Limit]
) -> tuple[Scale, float, str]:
    """Which way is worse, how far the value may move that way, and the same in words."""
    limit = new.limit or old.limit
    below = limit is not None and measured.value < limit.value
    worse: Literal["up", "down"] = "down" if below else "up"
    value = old.measured.value if old.measured else 0.0
    share = tolerances["finding"].value
    if measured.unit.startswith(LOG10):
        allowed = decades(tolerances["interior_growth_log10"], value, tolerances)
        return Scale("difference", worse), allowed, factor(allowed)
    if measured.unit.startswith("share"):
        allowed = tolerances["finding_share"].value
        return Scale("difference", worse), allowed, f"{allowed:.3g}"
    if value <= 0 or measured.value <= 0:
        allowed = share * abs(limit.value if limit is not None else 1.0)
        return Scale("difference", worse), allowed, f"{quotient(share)} of its limit"
    return Scale("ratio", worse), share, quotient(share)


def _spilled(
    change: FindingChange, before: Mapping[str, Sequence[Known]], tolerances: Mapping[str, Limit]
) -> FindingChange:
    """No news: a rule known elsewhere, at one more place that is hardly past its limit.

    Of 30 layers half of whose units are dead it is chance which of them lie just above the limit.
    """
    new = change.now
    if change.change != "new" or new is None or new.measured is None or new.limit is None:
        return change
    known = before.get(new.code, ())
    mildest = all(
        SEVERITIES.index(new.severity) < SEVERITIES.index(each.severity) for each in known
    )
    if mildest or new.measured.unit != new.limit.unit:  # also where none is known
        return change
    at_limit = replace(new, measured=Estimate.exact(new.limit.value, new.limit.unit))
    scale, allowed, words = _held_to(at_limit, new, new.measured, tolerances)
    exact = Estimate.exact(new.measured.value, new.measured.unit)
    if scale.turn(Estimate.exact(new.limit.value, new.limit.unit), exact, allowed) != "unchanged":
        return change
    why = (
        f"{new.code} is known at {plural(len(known), 'other place')}, and here it is past its "
        f"limit by no more than {words}: {_value(new)}."
    )
    return replace(change, change="unchanged", why=why)


def _renamed(changes: Sequence[FindingChange]) -> Iterator[FindingChange]:
    """Says so where the only new finding of a rule has the value of the only one that is gone."""
    arrived = Counter(each.known.code for each in changes if each.change == "new")
    gone: dict[str, list[Known]] = defaultdict(list)
    for each in changes:
        if each.change == "fixed":
            gone[each.known.code].append(each.known)
    for each in changes:
        code = each.known.code
        only = each.change == "new" and arrived[code] == len(gone[code]) == 1
        if only and _alike(gone[code][0], each.known):
            place = gone[code][0].place
            hint = f" The one at {place} is gone, with the same value: was the layer renamed?"
            yield replace(each, why=each.why + hint)
        else:
            yield each


def _alike(one: Known, other: Known) -> bool:
    if one.measured is None or other.measured is None or one.severity != other.severity:
        return False
    first, second = one.measured.value, other.measured.value
    return abs(first - second) <= _ALIKE * max(abs(first), abs(second))


def _values(old: Known, new: Known) -> str:
    if new.measured is None:
        return f"{_number(old.measured)} -> not a number"
    return phrase(new.measured, new.limit, TERMINAL, before=_number(old.measured))


def _value(known: Known) -> str:
    if known.measured is None:
        return "not a number"
    return phrase(known.measured, known.limit, TERMINAL)


def _number(measured: Estimate | None) -> str:
    return "not a number" if measured is None else amount(measured, TERMINAL).value
