"""Recurrent nodes seen as torch's layers, also where their weights come to them moved."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.probes.weight_sites import find_weights, vectors
from gradaudit.probes.weights import measure_weights
from gradaudit.settings import Settings
from tests.onnx_graph.exported import Way, export
from tests.remedies.pasted import paste, remedy
from tests.rules.literal import FLAT, measurements, recurrent

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
FOLDED, UNFOLDED = Way(False, 17), Way(False, 17, training=True)


class Net(nn.Module):
    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.body = KINDS[kind](3, 4, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)[0]


def loaded(kind: str, way: Way, **options: Any) -> tuple[nn.Module, nn.Module, Any]:
    """The layer, the graph, and the graph's node."""
    torch.manual_seed(0)
    net = Net(kind, **options)
    graph = load_onnx(export(net, (torch.randn(5, 2, 3),), way))
    (node,) = (m for m in graph.modules() if isinstance(m, nn.RNNBase))
    return net.body, graph, node


@pytest.mark.parametrize("way", [FOLDED, UNFOLDED], ids=["folded", "moved"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_torchs_names_order_and_values(
    kind: str, options: dict[str, Any], way: Way
) -> None:
    body, _, node = loaded(kind, way, **options)
    shown = node.as_torch()
    expected = dict(body.named_parameters())
    if options.get("bias", True):
        assert shown.keys() == expected.keys()
    for name, parameter in expected.items():
        assert torch.equal(shown[name], parameter)
        assert torch.equal(getattr(node, name), parameter)
    for name in ("input_size", "hidden_size", "num_layers", "bidirectional", "proj_size", "mode"):
        assert getattr(node, name) == getattr(body, name)


@pytest.mark.parametrize("kind", KINDS)
def test_moved_weights_are_the_layers_by_their_own_names(kind: str) -> None:
    body, graph, _ = loaded(kind, UNFOLDED, bidirectional=True)
    sites, skipped = find_weights(graph)
    named = {f"body.{name}": p for name, p in body.named_parameters()}
    assert not skipped
    assert {site.parameter for site in sites} == {n for n, p in named.items() if p.dim() == 2}
    assert {site.kind for site in sites} == {"recurrent"}
    assert {len(site.parts) for site in sites} == {{"RNN": 1, "LSTM": 4, "GRU": 3}[kind]}
    assert all(torch.equal(site.tensor, named[site.parameter]) for site in sites)
    assert {name for name, _, _ in vectors(graph)} == {n for n, p in named.items() if p.dim() == 1}


def test_a_copys_weights_are_its_own() -> None:
    _, graph, node = loaded("LSTM", UNFOLDED)
    before = node.weight_hh_l0.clone()
    other = copy.deepcopy(graph)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    (copied,) = (m for m in other.modules() if isinstance(m, nn.RNNBase))
    assert not copied.weight_hh_l0.any()
    assert torch.equal(node.weight_hh_l0, before)


def test_gradients_reach_the_graphs_weights_through_torchs() -> None:
    _, graph, node = loaded("GRU", FOLDED)
    node.weight_hh_l0.square().sum().backward()
    grads = {name: p.grad for name, p in graph.named_parameters() if p.grad is not None}
    ((name, grad),) = grads.items()
    torch.testing.assert_close(grad, 2 * graph.get_parameter(name).detach())


@pytest.mark.parametrize("way", [FOLDED, UNFOLDED], ids=["folded", "moved"])
@pytest.mark.parametrize(("kind", "gates", "kept"), [("LSTM", 4, 1), ("GRU", 3, 1)])
def test_the_remedy_sets_its_weights(kind: str, gates: int, kept: int, way: Way) -> None:
    _, graph, node = loaded(kind, way, bidirectional=True)
    (path,) = (name for name, module in graph.named_modules() if module is node)
    rows, _ = measure_weights(graph, {}, {}, Settings())
    row = replace(recurrent(-60.0), module=path, type=kind, steps=300)
    found = measurements(recurrent=(row,), weights=rows, rehearsal=FLAT)
    paste(remedy(found, "recurrent-initialization").code, model=graph)
    shown = node.as_torch()
    for end in ("", "_reverse"):
        for gate in shown[f"weight_hh_l0{end}"].chunk(gates):
            torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-5, rtol=0)
        own, other = shown[f"bias_ih_l0{end}"], shown[f"bias_hh_l0{end}"]
        assert not other.any()
        assert own.chunk(gates)[kept].min() > 0
        if kind == "LSTM":
            assert torch.equal(own.chunk(4)[0], -own.chunk(4)[1])
            assert not own.chunk(4)[2:][0].any()


def test_what_torch_does_not_compute_is_a_plain_node() -> None:
    torch.manual_seed(0)
    proto = export(Net("GRU"), (torch.randn(5, 2, 3),), FOLDED)
    (gru,) = (node for node in proto.graph.node if node.op_type == "GRU")
    (reset,) = (a for a in gru.attribute if a.name == "linear_before_reset")
    reset.i = 0
    assert not any(isinstance(m, nn.RNNBase) for m in load_onnx(proto).modules())
