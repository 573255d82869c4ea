"""The model at a glance: its stages from input to output, each as well as its worst finding.

A net of thousands of stages becomes a few dozen boxes: neighbours in the same state share one, and
where states alternate too often for that, neighbours share one that has the worst of their states.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from gradaudit.records import Finding, Report, StageRow
from gradaudit.reports import anchors
from gradaudit.reports.numbers import LOG10, number
from gradaudit.reports.text import plural, shorten

MOST = 48  # boxes
_TOGETHER = 4  # neighbours of which there is the same to say, from which on they share a box
_CODES_SHOWN = 3
_NAME_LETTERS = 40  # the whole name stands where the box leads
_LEAST_REACH = 0.3  # decades of gain that fill a bar at least: a factor of two
_STATES = ("fail", "warn", "note", "pass")  # worst first
WORDS = {"fail": "fails", "warn": "warning", "note": "note", "pass": "fine"}
_GROWTH = {"exploding-jacobian": "grows", "vanishing-jacobian": "shrinks"}


@dataclass(frozen=True)
class Layer:
    """One stage, or one module where there are no stages."""

    name: str
    state: str
    codes: tuple[tuple[str, str], ...]  # rule, address of the finding; worst first
    gain_log10: float | None
    adds: str = ""  # what it does to gradients that are past their limit: "grows", "shrinks"
    minor: bool = False  # nothing but notes is found in it


@dataclass(frozen=True)
class Box:
    """Some neighbours that are drawn as one."""

    first: str
    last: str
    size: int
    state: str
    word: str
    codes: tuple[tuple[str, str], ...]
    left_out: int  # further codes
    gain: str
    bar: tuple[float, float] | None  # left end and width in percent; the middle is no gain
    address: str  # of the layer that is worst

    @property
    def title(self) -> str:
        """The names as text."""
        return self.first if self.size == 1 else f"{self.first} … {self.last}"


@dataclass(frozen=True)
class ModelMap:
    """All boxes in order, and the findings that are about no layer."""

    boxes: tuple[Box, ...]
    layers: int
    what: str  # "stage" | "layer"
    elsewhere: tuple[tuple[str, str, str, str], ...]  # state, code, name, address
    summary: str
    adding: tuple[int, str]  # layers marked for what they do to the gradient, and what that is


def draw(report: Report) -> ModelMap | None:
    """The map; ``None`` where fewer than two layers are known."""
    rows = _places(report)
    if len(rows) < 2:
        return None
    found, elsewhere = _placed(report, rows)
    marked = adds(report)
    layers = [_layer(row, found[i], marked) for i, row in enumerate(rows)]
    adding = [layer.adds for layer in layers if layer.adds]
    what = "stage" if report.measurements.stages else "layer"
    reach = max([_LEAST_REACH, *(abs(x.gain_log10) for x in layers if x.gain_log10 is not None)])
    return ModelMap(
        tuple(_box(group, reach) for group in grouped(layers)),
        len(layers),
        what,
        tuple((f.severity, f.code, f.name, address) for address, f in elsewhere),
        _summary(layers, what),
        (len(adding), adding[0] if adding else ""),
    )


def grouped(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Neighbours that share a box, ``MOST`` boxes at most."""
    groups: list[list[Layer]] = []
    for _, run in groupby(layers, key=_said_of):
        same = list(run)
        groups += [same] if len(same) >= _TOGETHER else [[layer] for layer in same]
    if len(groups) > MOST:
        groups = [list(run) for _, run in groupby(layers, key=lambda layer: layer.state)]
    if len(groups) > MOST:
        size = -(-len(layers) // MOST)
        groups = [list(layers[i : i + size]) for i in range(0, len(layers), size)]
    return groups


def _said_of(layer: Layer) -> tuple[str, str, tuple[str, ...]]:
    return layer.state, layer.adds, tuple(code for code, _ in layer.codes)


@dataclass(frozen=True)
class _Place:
    """Where findings can be: a stage or a module, and the names that belong to it."""

    name: str
    modules: frozenset[str]
    parameters: frozenset[str]
    stage: StageRow | None = None


def _places(report: Report) -> list[_Place]:
    m = report.measurements
    if m.stages:
        return [
            _Place(s.name, frozenset((s.name, *s.modules)), frozenset(s.parameters), s)
            for s in m.stages
        ]
    owned: dict[str, set[str]] = {}
    for weight in m.weights:
        owned.setdefault(weight.module, set()).add(weight.parameter)
    for row in m.parameters:
        if row.module in owned:
            owned[row.module].add(row.parameter)
    called = dict.fromkeys(row.module for row in m.modules if row.module in owned)
    order = [*called, *(name for name in owned if name not in called)]
    return [_Place(name, frozenset((name,)), frozenset(owned[name])) for name in order]


_Found = tuple[str, Finding]  # with its address


def _placed(report: Report, places: Sequence[_Place]) -> tuple[list[list[_Found]], list[_Found]]:
    """The findings of each place, and those of none."""
    by_module = {name: i for i, p in reversed([*enumerate(places)]) for name in p.modules if name}
    by_parameter = {name: i for i, p in enumerate(places) for name in p.parameters}
    by_stage = {p.stage.index: i for i, p in enumerate(places) if p.stage}
    found: list[list[_Found]] = [[] for _ in places]
    elsewhere: list[_Found] = []
    for pair in zip(anchors.addresses(report.findings), report.findings, strict=True):
        where = pair[1].where
        place = by_stage.get(where.stage) if where.stage is not None else None
        if place is None:
            place = by_parameter.get(where.parameter)
        name = where.module or where.parameter
        while place is None and name:  # else the nearest module around it
            place = by_module.get(name)
            name = name.rpartition(".")[0]
        (elsewhere if place is None else found[place]).append(pair)
    return found, elsewhere


def _layer(place: _Place, findings: Sequence[_Found], marked: Mapping[int, str]) -> Layer:
    ordered = sorted(findings, key=lambda pair: _STATES.index(pair[1].severity))
    state: str = ordered[0][1].severity if ordered else "pass"
    firsts: dict[str, str] = {}
    for address, finding in ordered:
        firsts.setdefault(finding.code, address)
    log10 = None
    if place.stage and place.stage.backward_gain and place.stage.backward_gain.value > 0:
        log10 = math.log10(place.stage.backward_gain.value)
    does = marked.get(place.stage.index, "") if place.stage else ""
    minor = state in ("note", "pass")
    if does and minor:
        state = "warn"
    return Layer(place.name, state, tuple(firsts.items()), log10, does, minor)


def adds(report: Report) -> dict[int, str]:
    """What stages do to gradients that are past their limit, by index: ``grows``, ``shrinks``.

    Only those are named under which gradients would be past it too if all stages did the same.
    """
    limits = [
        (_GROWTH[finding.name], finding.limit.value)
        for finding in report.findings
        if finding.name in _GROWTH
        and finding.severity != "note"
        and finding.limit.unit.startswith(LOG10)
    ]
    found: dict[int, str] = {}
    stages = report.measurements.stages
    for stage in stages if limits else ():
        gain = stage.backward_gain
        if stage.role == "inlet" or gain is None or gain.value <= 0:
            continue
        in_all = math.log10(gain.value) * (len(stages) - 1)
        for word, limit in limits:
            sign = 1 if word == "grows" else -1
            if sign * in_all > sign * limit:
                found.setdefault(stage.index, word)
    return found


def _box(layers: Sequence[Layer], reach: float) -> Box:
    worst = min(
        layers, key=lambda layer: (_STATES.index(layer.state), -abs(layer.gain_log10 or 0.0))
    )
    pairs = (pair for layer in layers for pair in layer.codes)
    firsts: dict[str, str] = {}
    for code, address in pairs:
        firsts.setdefault(code, address)
    codes = tuple(firsts.items())
    known = [layer.gain_log10 for layer in layers if layer.gain_log10 is not None]
    return Box(
        shorten(layers[0].name or "the model", _NAME_LETTERS),
        shorten(layers[-1].name or "the model", _NAME_LETTERS),
        len(layers),
        worst.state,
        _word(layers, worst),
        codes[:_CODES_SHOWN],
        len(codes[_CODES_SHOWN:]),
        _gain(known),
        _bar(known, reach),
        anchors.anchor("layer", worst.name),
    )


def _word(layers: Sequence[Layer], worst: Layer) -> str:
    only = worst.adds if worst.minor else ""
    if len(layers) == 1:
        return f"{only} too much" if only else WORDS[worst.state]
    if all(_said_of(layer) == _said_of(worst) for layer in layers):
        alike = f"each {only} too much" if only else f"all {_plain(worst.state)}"
        return f"{len(layers):,} in a row, {alike}"
    counts = Counter(layer.state for layer in layers)
    said = (f"{counts[state]:,} {_plain(state)}" for state in _STATES if counts[state])
    return f"{len(layers):,} in a row: {', '.join(said)}"


def _plain(state: str) -> str:
    return {"fail": "ill", "warn": "suspect", "note": "noted", "pass": "fine"}[state]


def _gain(known: Sequence[float]) -> str:
    if not known:
        return ""
    low, high = number(10 ** min(known)), number(10 ** max(known))
    return low if low == high else f"{low} – {high}"


def _bar(known: Sequence[float], reach: float) -> tuple[float, float] | None:
    if not known:
        return None
    ends = [0.0, min(known), max(known)]
    left, right = (50 + 50 * end / reach for end in (min(ends), max(ends)))
    return round(left, 1), round(max(right - left, 1.0), 1)


def _summary(layers: Sequence[Layer], what: str) -> str:
    counts = Counter(layer.state for layer in layers)
    said = [f"{counts[s]:,} {_plain(s)}" for s in _STATES if counts[s]]
    return f"{plural(len(layers), what)} from input to output: {', '.join(said)}."
