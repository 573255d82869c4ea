"""All that is known about each layer, brought together from every measurement and finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gradaudit.records import (
    SEVERITIES,
    AttentionRow,
    Finding,
    HeadRow,
    ModuleRow,
    ParameterRow,
    RecurrentRow,
    Report,
    StageRow,
    WeightRow,
)
from gradaudit.reports import model_map
from gradaudit.reports.anchors import addresses, anchor


@dataclass
class Layer:
    """A module, or a stage that bears no module's name, with every row that is about it."""

    name: str
    stages: list[StageRow] = field(default_factory=list)
    calls: list[ModuleRow] = field(default_factory=list)
    weights: list[WeightRow] = field(default_factory=list)
    parameters: list[ParameterRow] = field(default_factory=list)
    attention: list[AttentionRow] = field(default_factory=list)
    heads: list[HeadRow] = field(default_factory=list)
    recurrent: list[RecurrentRow] = field(default_factory=list)
    findings: list[tuple[str, Finding]] = field(default_factory=list)  # with their addresses
    within: StageRow | None = None  # the stage that it is a part of
    adds: str = ""  # what it does to gradients that are past their limit: "grows", "shrinks"

    @property
    def id(self) -> str:
        """Its address within the page."""
        return anchor("layer", self.name)

    @property
    def type(self) -> str:
        """The module's class, as far as it is known."""
        types = [row.type for rows in (self.calls, self.weights, self.recurrent) for row in rows]
        return next(filter(None, types), "stage" if self.stages else "")

    @property
    def severity(self) -> str:
        """Of its worst finding; ``pass`` where there is nothing to be said against it."""
        held = {found.severity for _, found in self.findings}
        held |= {"warn"} if self.adds else set()
        return next((each for each in SEVERITIES if each in held), "pass")

    @property
    def calls_for_action(self) -> bool:
        """Whether anything about it does not pass."""
        return self.severity in ("fail", "warn")


def layers(report: Report) -> tuple[Layer, ...]:
    """Every layer in the order in which they ran, a stage before the modules it is made of."""
    found: dict[str, Layer] = {}
    for name, kind, row in _rows(report):
        getattr(found.setdefault(name, Layer(name)), kind).append(row)
    within = {name: stage for stage in report.measurements.stages for name in stage.modules}
    order = {name: float(i) for i, name in enumerate(found)}
    adding = model_map.adds(report)
    for name, layer in found.items():
        layer.adds = next((adding[s.index] for s in layer.stages if s.index in adding), "")
        if layer.stages:
            parts = {part for stage in layer.stages for part in stage.modules}
            held = (order[part] for part in parts if part in order)
            order[name] = min(held, default=order[name]) - 0.5
        elif name in within:
            layer.within = within[name]
    owners = _owners(report)
    for address, finding in zip(addresses(report.findings), report.findings, strict=True):
        home = _name(finding, report, owners)
        if home is not None and home in found:
            found[home].findings.append((address, finding))
    return tuple(sorted(found.values(), key=lambda layer: order[layer.name]))


def _name(finding: Finding, report: Report, owners: Mapping[str, str]) -> str | None:
    """The layer that a finding is about; ``None`` where it is about the model as a whole."""
    where = finding.where
    if where.module:
        return where.module
    if where.parameter:
        return owners.get(where.parameter, where.parameter.rpartition(".")[0])
    stages = report.measurements.stages
    if where.stage is not None and where.stage < len(stages):
        return stages[where.stage].name
    return None


def _rows(report: Report) -> Iterator[tuple[str, str, object]]:
    """Name of the layer, field of :class:`Layer`, row; calls first, since they give the order."""
    m = report.measurements
    owners = _owners(report)
    yield from ((row.module, "calls", row) for row in m.modules)
    yield from ((row.name, "stages", row) for row in m.stages)
    yield from ((row.module, "weights", row) for row in m.weights)
    yield from ((owners[row.parameter], "parameters", row) for row in m.parameters)
    yield from ((row.module, "recurrent", row) for row in m.recurrent)
    yield from ((row.module, "attention", row) for row in m.attention)
    yield from ((row.module, "heads", row) for row in m.attention_heads)


def _owners(report: Report) -> dict[str, str]:
    """The module of each parameter."""
    m = report.measurements
    known = {row.parameter: row.module or row.parameter.rpartition(".")[0] for row in m.parameters}
    return known | {row.parameter: row.module for row in m.weights}
