"""Which finding of now is which finding of before: by rule and layer."""

from __future__ import annotations

from collections import defaultdict, deque
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
    gone = [True] * len(before)
    matched: dict[int, int] = {}
    for key in (_place, _rule):
        waiting: dict[object, deque[int]] = defaultdict(deque)
        for i, each in enumerate(before):
            if gone[i]:
                waiting[key(each)].append(i)
        for i, each in enumerate(now):
            same = waiting.get(key(each))
            if i not in matched and key(each) is not None and same:
                matched[i] = same.popleft()
                gone[matched[i]] = False
    for i, each in enumerate(now):
        yield before[matched[i]] if i in matched else None, each
    for i, each in enumerate(before):
        if gone[i]:
            yield each, None


def _place(finding: Known) -> object:
    return finding.code, finding.place


def _rule(finding: Known) -> object:
    """``None`` for the rules that may speak of several layers."""
    return finding.code if finding.code in ONE_PLACE else None
