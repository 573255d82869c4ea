"""The layers of a page: one by one, or gathered by consecutive stages where there are too many.

Whatever its depth, a net's every layer keeps its address; only past :data:`ROWS` are layers that
stand out least left to the JSON report, and the page says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from gradaudit.records import Report
from gradaudit.reports import layer_facts
from gradaudit.reports.anchors import anchor
from gradaudit.reports.layers import Layer, layers
from gradaudit.reports.numbers import figures, number
from gradaudit.reports.page import Fact
from gradaudit.reports.text import plural

SINGLY = 300  # layers that are each given a fold of their own
BLOCKS = 100  # folds where they are gathered
ROWS = 6000  # layers that are given a row
_STATES = ("fail", "warn", "note", "pass")


@dataclass(frozen=True)
class LayerView:
    """One layer: what it is, how it fares, and all its figures."""

    id: str
    name: str
    type: str
    severity: str
    hot: bool  # something about it does not pass
    gist: str  # the figure that says the most
    groups: tuple[tuple[str, tuple[Fact, ...]], ...]
    findings: tuple[tuple[str, str, str, str], ...]  # address, severity, code, name
    within: tuple[str, str] | None  # address and name of its stage


@dataclass(frozen=True)
class LayerRow:
    """One layer among many: a row of figures."""

    id: str
    name: str
    type: str
    hot: bool
    figures: tuple[str, ...]
    findings: tuple[tuple[str, str], ...]  # address and code


@dataclass(frozen=True)
class Block:
    """Consecutive stages with all layers in them."""

    id: str
    title: str
    severity: str
    hot: bool
    gist: str
    rows: tuple[LayerRow, ...]
    bare: tuple[str, ...]  # addresses of stages that got no row
    note: str


COLUMNS = ("Gain", "Spectral norm", "Output rms", "Gradient rms", "Update / weight")


@dataclass(frozen=True)
class Drilldown:
    """All layers of a report, in one of the two ways."""

    count: int
    summary: str  # how many fare how
    singly: tuple[LayerView, ...]
    blocks: tuple[Block, ...]
    note: str
    homes: Mapping[str, str]  # address of a finding -> that of its layer


def drill(report: Report) -> Drilldown:
    """The layers of a report, each with all that is known about it."""
    found = layers(report)
    if len(found) <= SINGLY:
        homes = {address: layer.id for layer in found for address, _ in layer.findings}
        return Drilldown(len(found), _summary(found), tuple(map(_view, found)), (), "", homes)
    blocks = tuple(_blocks(found, ROWS / len(found)))
    rows = [row for block in blocks for row in block.rows]
    note = (
        f"{plural(len(found), 'layer')} are gathered into {len(blocks)} groups of consecutive "
        f"stages; {'each' if len(rows) == len(found) else 'what stands out'} has a row in its "
        "group. Intervals and everything else about each are in the JSON report."
    )
    homes = {address: row.id for row in rows for address, _ in row.findings}
    return Drilldown(len(found), _summary(found), (), blocks, note, homes)


def _summary(found: Sequence[Layer]) -> str:
    counts = Counter(layer.severity for layer in found)
    words = {"fail": "failing", "warn": "suspect", "note": "noted", "pass": "fine"}
    said = (f"{counts[state]:,} {words[state]}" for state in _STATES if counts[state])
    return f"{plural(len(found), 'layer')}: {', '.join(said)}"


def _view(layer: Layer) -> LayerView:
    stage = layer.within
    return LayerView(
        layer.id,
        layer.name,
        layer.type,
        layer.severity,
        layer.calls_for_action,
        _gist(layer),
        layer_facts.groups(layer),
        tuple((address, f.severity, f.code, f.name) for address, f in layer.findings),
        (anchor("layer", stage.name), stage.name) if stage else None,
    )


def _gist(layer: Layer) -> str:
    words = dict(zip(COLUMNS, _numbers(layer), strict=True))
    said = (f"{name.lower()} {number(value)}" for name, value in words.items() if value is not None)
    return next(said, "") + (f", {layer.adds} too much" if layer.adds else "")


def _numbers(layer: Layer) -> tuple[float | None, ...]:
    """One number for each of :data:`COLUMNS`."""
    gains = [row.backward_gain.value for row in layer.stages if row.backward_gain]
    norms = [row.spectral_norm.value for row in layer.weights if row.spectral_norm]
    sizes = [row.output_rms for row in layer.calls if row.output_rms is not None]
    slopes = [row.gradient_rms for row in layer.calls if row.gradient_rms is not None]
    steps = [row.update_ratio.value for row in layer.parameters if row.update_ratio]
    kinds = (gains, norms, sizes, slopes, steps)
    return tuple(max(values, default=None) for values in kinds)


def _blocks(found: Sequence[Layer], share: float) -> Iterator[Block]:
    indices = list(_stage_numbers(found))
    most = indices[-1] + 1
    size = -(-most // BLOCKS)
    pairs = zip(indices, found, strict=True)
    for place, members in groupby(pairs, key=lambda pair: pair[0] // size):
        held = [layer for _, layer in members]
        yield _block(place, held, max(1, int(share * len(held))))


def _stage_numbers(found: Sequence[Layer]) -> Iterator[int]:
    """The stage each layer belongs to, never falling; its own place where no trunk was found."""
    known = any(layer.stages for layer in found)
    last = 0
    for place, layer in enumerate(found):
        stages = [*layer.stages, *([layer.within] if layer.within else [])]
        last = max([last, *(stage.index for stage in stages[:1])]) if known else place
        yield last


def _block(place: int, members: Sequence[Layer], room: int) -> Block:
    kept = set(map(id, sorted(members, key=_calm)[:room]))
    rows = tuple(_row(layer) for layer in members if id(layer) in kept)
    bare = tuple(layer.id for layer in members if layer.stages and id(layer) not in kept)
    severity = min((layer.severity for layer in members), key=_STATES.index)
    left = len(members) - len(rows)
    return Block(
        f"layers-{place}",
        f"{members[0].name or 'the model'} … {members[-1].name or 'the model'}",
        severity,
        any(layer.calls_for_action for layer in members),
        _spread(members),
        rows,
        bare,
        f"The {len(rows)} of {plural(len(members), 'layer')} that stand out most; all are in the "
        "JSON report."
        if left
        else "",
    )


def _calm(layer: Layer) -> int:
    """Sorts what calls for action before notes, and those before the rest."""
    return _STATES.index(layer.severity)


def _row(layer: Layer) -> LayerRow:
    return LayerRow(
        layer.id,
        layer.name,
        layer.type,
        layer.calls_for_action,
        tuple("" if value is None else figures(value) for value in _numbers(layer)),
        tuple((address, f.code) for address, f in layer.findings),
    )


def _spread(members: Sequence[Layer]) -> str:
    """``40 layers, gain 1.02 (0.9 – 1.3)``: the median and the ends."""
    words = plural(len(members), "layer")
    columns = zip(COLUMNS, zip(*map(_numbers, members), strict=True), strict=True)
    for name, values in columns:
        known = [value for value in values if value is not None]
        if known:
            ends = f"{figures(min(known))} – {figures(max(known))}"
            return f"{words}, {name.lower()} {figures(median(known))} ({ends})"
    return words
