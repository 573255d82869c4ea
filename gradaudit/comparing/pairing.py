"""Which finding of now is which finding of before: by rule and layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradaudit.records import Known

# Rules that say one thing about the whole model and name the layer where it is worst. That layer
# may be another one after every change; the finding is the same.
ONE_PLACE = frozenset(
    {
        "GA001",  # the first operation of those that give NaN
        "GA101",
        "GA102",
        "GA104",  # the first of the parameters that the loss does not reach
        "GA302",
        "GA403",
        "GA404",
        "GA503",  # the head
        "GA605",
        "GA701",
        "GA702",
    }
)

Pair = tuple[Known | None, Known | None]  # before, now


def pairs(before: Sequence[Known], now: Sequence[Known]) -> Iterator[Pair]:
    """Every finding of either side once: those of now in their order, then those that are gone.

    Several of one rule at one place are matched in their order.
    """
    left = list(before)
    matched: dict[int, Known] = {}
    for same in (_same_place, _same_rule):
        for i, each in enumerate(now):
            if i in matched:
                continue
            found = next((old for old in left if same(old, each)), None)
            if found is not None:
                matched[i] = found
                left.remove(found)
    for i, each in enumerate(now):
        yield matched.get(i), each
    for gone in left:
        yield gone, None


def _same_place(one: Known, other: Known) -> bool:
    return (one.code, one.place) == (other.code, other.place)


def _same_rule(one: Known, other: Known) -> bool:
    return one.code == other.code and one.code in ONE_PLACE
