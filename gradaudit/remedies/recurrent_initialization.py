"""Orthogonal recurrent weights, and a forget gate that starts open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gradaudit.records import Finding, Measurements, RecurrentRow, Remedy
from gradaudit.remedies._code import MODEL, dict_literal
from gradaudit.remedies._layers import may_reset
from gradaudit.settings import Settings

ORDER = 30

_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
_SHORT = 10  # up to this many steps a forget bias of +1 carries far enough

_ORTHOGONAL = """\
with torch.no_grad():
    for name, gates in GATES.items():
        module = model.get_submodule(name)
        for key, weight in module.named_parameters(recurse=False):
            if key.startswith("weight_hh"):
                for gate in weight.chunk(gates):
                    if getattr(module, "nonlinearity", "tanh") == "relu":
                        nn.init.eye_(gate)
                    else:
                        gate.copy_(nn.init.orthogonal_(torch.empty(gate.shape)))
"""

# PyTorch adds two biases, so one carries the number and the other is zero.
_MEMORY = """\
    for name, steps in STEPS.items():
        module = model.get_submodule(name)
        for key, bias in module.named_parameters(recurse=False):
            if key.startswith("bias_hh"):
                nn.init.zeros_(bias)
            elif key.startswith("bias_ih"):
                nn.init.zeros_(bias)
                keep = bias.chunk(GATES[name])[1]  # LSTM: forget gate; GRU: update gate
                if steps > {short}:  # chrono: time constants spread up to the sequence's length
                    keep.copy_(torch.empty_like(keep).uniform_(1, steps - 1).log())
                    if GATES[name] == 4:
                        bias.chunk(4)[0].copy_(-keep)
                else:
                    nn.init.ones_(keep)
"""


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy for all recurrent modules that explode or vanish; none on learned weights.

    Orthogonal: Saxe et al. 2014, arXiv 1312.6120; identity under ReLU: Le et al. 2015, arXiv
    1504.00941; forget bias: Jozefowicz et al. 2015; chrono: Tallec and Ollivier 2018.
    """
    if not may_reset(measurements):
        return
    exploding = {f.where.module for f in findings if f.code == "GA201"}
    vanishing = {f.where.module for f in findings if f.code in ("GA202", "GA203")}
    rows = [
        row
        for row in measurements.recurrent
        if row.module in exploding | vanishing and _kind(row) in _GATES
    ]
    if not rows:
        return
    gates = {row.module: _GATES[_kind(row)] for row in rows}
    steps = {r.module: r.steps for r in rows if r.module in vanishing and gates[r.module] > 1}
    tables, loops = [dict_literal("GATES", gates)], _ORTHOGONAL
    if steps:
        tables.append(dict_literal("STEPS", steps))
        loops += _MEMORY.format(short=_SHORT)
    names = ", ".join(f"`{name}`" for name in gates)
    memory = f", and {_opening(steps)}" if steps else ""
    yield Remedy(
        "recurrent-initialization",
        "initialization",
        f"Make the recurrent weights of {names} orthogonal{memory}.",
        {"modules": tuple(gates), "steps": steps},
        "\n".join([MODEL, "import torch", "from torch import nn", "", *tables, loops]),
        "changes start values",
        ("GA201", "GA202", "GA203", "GA302"),
        sets=tuple(
            row.parameter
            for row in measurements.weights
            if row.module in gates and ".weight_hh" in f".{row.parameter}"
        ),
    )


def _opening(steps: Mapping[str, int]) -> str:
    """What happens to the gates, with the numbers that go into them."""
    longest = max(steps.values())
    if longest <= _SHORT:
        return f"open the gate that keeps the state (bias 1, for {longest} steps)"
    return (
        "open the gate that keeps the state for the sequence's length "
        f"(biases ln U[1, {longest - 1}]: memories of 1 to {longest - 1} steps)"
    )


def _kind(row: RecurrentRow) -> str:
    return row.type.removesuffix("Cell")
