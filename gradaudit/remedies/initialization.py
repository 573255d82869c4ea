"""Draw each weight that is off at the variance its activation needs (He, Glorot, LeCun, ...)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._code import MODEL, dict_literal, list_literal, rounded
from gradaudit.remedies._layers import Start, resets
from gradaudit.settings import Settings

ORDER = 20


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy for all layers; none on learned weights."""
    starts = resets(findings, measurements, settings)
    if not starts:
        return
    schemes = sorted({start.scheme for start in starts})
    layers = f"{len(starts)} weights" if len(starts) > 1 else f"`{starts[0].parameter}`"
    yield Remedy(
        "initialization",
        "initialization",
        f"Draw {layers} anew ({', '.join(schemes)}), each at the scale its activation needs.",
        {
            "schemes": {start.parameter: start.scheme for start in starts},
            "std": {s.parameter: rounded(s.std) for s in starts if s.std is not None},
            "gain": {s.parameter: rounded(s.gain) for s in starts if s.gain is not None},
        },
        code(starts),
        "changes start values",
        ("GA101", "GA102", "GA301", "GA302", "GA404"),
        sets=tuple(start.parameter for start in starts),
    )


def code(starts: Sequence[Start]) -> str:
    """Python that sets those start values and the biases beside them."""
    std = {start.parameter: rounded(start.std) for start in starts if start.std is not None}
    gain = {start.parameter: rounded(start.gain) for start in starts if start.gain is not None}
    tables, loops = [], []
    if std:
        tables.append(dict_literal("STD", std))
        loops.append("    for name, std in STD.items():")
        loops.append("        nn.init.normal_(model.get_parameter(name), std=std)")
    if gain:
        tables.append(dict_literal("ORTHOGONAL_GAIN", gain))
        loops.append("    for name, gain in ORTHOGONAL_GAIN.items():")
        loops.append("        weight = model.get_parameter(name)")
        loops.append("        drawn = nn.init.orthogonal_(torch.empty(weight.shape), gain=gain)")
        loops.append("        weight.copy_(drawn)  # torch draws none in half precision")
    names = " + ".join(
        f"list({t})" for t, full in (("STD", std), ("ORTHOGONAL_GAIN", gain)) if full
    )
    elsewhere = any(start.row is not None and start.row.elsewhere for start in starts)
    more, lines = _biases_elsewhere(starts) if elsewhere else _biases_beside(starts, names)
    head = [MODEL, "import torch", "from torch import nn", ""]
    body = [*tables, *more, "with torch.no_grad():", *loops, *lines]
    return "\n".join([*head, *body]) + "\n"


def _biases_beside(starts: Sequence[Start], names: str) -> tuple[list[str], list[str]]:
    """Tables and lines that set the biases of torch's own layers; ``names`` lists the weights."""
    lines = [
        f"    for name in {names}:",
        '        layer = model.get_submodule(name.rpartition(".")[0])',
        '        if getattr(layer, "bias", None) is not None:',
        "            nn.init.zeros_(layer.bias)",
    ]
    recentred = [start.parameter for start in starts if start.recentred]
    tables = []
    if recentred:
        tables.append(list_literal("AFTER_SIGMOID", recentred))
        lines += [
            "    for name in AFTER_SIGMOID:  # take out the mean 1/2 of the sigmoid before",
            '        layer = model.get_submodule(name.rpartition(".")[0])',
            '        if getattr(layer, "bias", None) is not None:',
            "            layer.bias.copy_(-0.5 * layer.weight.flatten(1).sum(dim=1))",
        ]
    return tables, lines


def _biases_elsewhere(starts: Sequence[Start]) -> tuple[list[str], list[str]]:
    """Tables and lines that set the biases of an ONNX graph, each named for itself."""
    rows = {start.parameter: start.row for start in starts if start.row is not None}
    biases = {name: row.bias for name, row in rows.items() if row.bias}
    if not biases:
        return [], []
    tables = [dict_literal("BIAS", biases)]
    lines = [
        "    for bias in BIAS.values():",
        "        nn.init.zeros_(model.get_parameter(bias))",
    ]
    sums = {
        start.parameter: 0 if rows[start.parameter].inputs_first else 1
        for start in starts
        if start.recentred and start.parameter in biases
    }
    if sums:
        tables.append(dict_literal("INPUTS_DIM", sums))
        lines += [
            "    for name, dim in INPUTS_DIM.items():  # take out the sigmoid's mean, 1/2",
            "        total = model.get_parameter(name).flatten(1).sum(dim=dim)",
            "        model.get_parameter(BIAS[name]).copy_(-0.5 * total)",
        ]
    return tables, lines
