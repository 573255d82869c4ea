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


# A node of an ONNX graph has the gates of both directions in one tensor, in an order of its own: the
# state's weights [directions, gates x hidden, hidden], the biases [directions, 2 x gates x hidden].
_ORTHOGONAL_NODE = """\
with torch.no_grad():
    for name, gates in GATES.items():
        module = model.get_submodule(name)
        weight = module.recurrent_kernel
        for gate in weight.flatten(0, 1).chunk(gates * len(weight)):
            if getattr(module, "nonlinearity", "tanh") == "relu":
                nn.init.eye_(gate)
            else:
                gate.copy_(nn.init.orthogonal_(torch.empty(gate.shape)))
"""

_MEMORY_NODE = """\
    for name, steps in STEPS.items():
        biases = getattr(model.get_submodule(name), "biases", None)
        if biases is None:
            continue
        nn.init.zeros_(biases)
        lstm = GATES[name] == 4
        for own in biases.chunk(2, dim=1)[0]:
            keep = own.chunk(GATES[name])[2 if lstm else 0]  # forget gate; GRU: update gate
            if steps > {short}:  # chrono: time constants spread up to the sequence's length
                keep.copy_(torch.empty_like(keep).uniform_(1, steps - 1).log())
                if lstm:
                    own.chunk(4)[0].copy_(-keep)
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
    homes = {row.module: _home(row.module, measurements) for row in rows}
    nodes = not all(homes.values())
    homes = {module: home or module for module, home in homes.items()}
    gates = {homes[row.module]: _GATES[_kind(row)] for row in rows}
    steps = {
        homes[row.module]: row.steps
        for row in rows
        if row.module in vanishing and _GATES[_kind(row)] > 1
    }
    tables, loops = [dict_literal("GATES", gates)], _ORTHOGONAL_NODE if nodes else _ORTHOGONAL
    if steps:
        tables.append(dict_literal("STEPS", steps))
        loops += (_MEMORY_NODE if nodes else _MEMORY).format(short=_SHORT)
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
            if row.module in homes and (nodes or ".weight_hh" in f".{row.parameter}")
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


def _home(module: str, measurements: Measurements) -> str:
    """Where torch's layer has the weights that ``module`` uses; empty for a node that stores them
    in ONNX's order.
    """
    own = [r.parameter for r in measurements.weights if r.module == module]
    named = [name.rpartition(".")[0] for name in own if "weight_hh" in name.rpartition(".")[2]]
    return named[0] if named else "" if own else module


def _kind(row: RecurrentRow) -> str:
    return row.type.removesuffix("Cell")
