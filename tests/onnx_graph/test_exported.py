"""What torch's exporters write, once loaded, is the net it came from: outputs and gradients."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from gradaudit.onnx_graph.loading import load_onnx
from tests.onnx_graph.exported import (
    LIMIT,
    OLD_OPSETS,
    OPSETS,
    Way,
    export,
    inputs_of,
    net,
    outcome,
    quiet,
    refused,
)
from tests.onnx_graph.exported_nets import NETS, encoder
from tests.onnx_graph.matching import Outcome, compare

_MODES = list(itertools.product((False, True), repeat=3))  # training, dynamic, double


def _spread() -> list[tuple[str, Way]]:
    """Of all ways, five for each net: over the nets, opsets meet all modes.

    `python -m tests.onnx_graph.exported` takes all 1,116.
    """
    found = []
    for i, name in enumerate(NETS):
        found.append((name, Way(True, OPSETS[i % len(OPSETS)], *_MODES[3 * i % 8])))
        for n, opset in enumerate(OLD_OPSETS):
            found.append((name, Way(False, opset, *_MODES[(i + 3 * n) % 8])))
    return [(name, way) for name, way in found if not refused(name, way)]


def _check(found: Outcome) -> None:
    assert found.unmatched == ()
    assert found.idle == ()
    assert found.constants == ()
    off = {name: error for name, error in found.errors.items() if error >= LIMIT}
    assert off == {}


@pytest.mark.parametrize(("name", "way"), _spread(), ids=str)
def test_outputs_and_gradients_are_the_nets(name: str, way: Way) -> None:
    _check(outcome(name, way))


@pytest.mark.parametrize("way", [Way(True, 20), Way(False, 17, training=True)], ids=str)
@pytest.mark.parametrize("name", ["MLP", "bidirectional LSTM"])
def test_weights_beside_the_file_are_the_nets(name: str, way: Way, tmp_path: Path) -> None:
    found = outcome(name, way, tmp_path / "net.onnx")
    assert (tmp_path / "weights").stat().st_size > 0
    _check(found)


def test_weights_that_the_exporter_puts_beside_the_file_are_the_nets(tmp_path: Path) -> None:
    way, path = Way(True, 20), tmp_path / "net.onnx"
    model, (x,) = net("LSTM", way), inputs_of("LSTM", way)
    with quiet():
        given = (x.detach(),)
        torch.onnx.export(model, given, path, dynamo=True, external_data=True, verbose=False)
    assert len(list(tmp_path.iterdir())) == 2
    _check(compare(model, load_onnx(path), (x,)))


@pytest.mark.parametrize(
    ("way", "folds"),
    [
        (Way(True, 20), True),
        (Way(True, 20, training=True), True),  # it writes batch norm as in evaluation all the same
        (Way(False, 17), True),
        (Way(False, 17, training=True), False),
    ],
    ids=str,
)
def test_batch_norm_that_evaluates_is_folded(way: Way, folds: bool) -> None:
    found = outcome("CNN", way)
    layers = {f"{i}.{leaf}" for i in (0, 1, 4, 5) for leaf in ("weight", "bias")}
    assert set(found.folded) == (layers if folds else set())


@pytest.mark.parametrize("way", [Way(True, 20), Way(False, 17)], ids=str)
def test_equal_parameters_become_one_with_the_sum_of_their_gradients(way: Way) -> None:
    torch.manual_seed(0)
    model, x = encoder(8, 2, 2), torch.randn(3, 5, 8, requires_grad=True)
    graph = load_onnx(export(copy.deepcopy(model), (x,), way))
    assert len(list(graph.parameters())) < len(list(model.parameters())) - 6
    _check(compare(model, graph, (x,)))


@pytest.mark.parametrize("way", [Way(True, 20), Way(False, 17)], ids=str)
def test_statistics_that_equal_a_parameter_are_not_trained(way: Way) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2), nn.ReLU(), nn.BatchNorm1d(2)).eval()
    x = torch.randn(3, 4, requires_grad=True)
    proto = export(net, (x,), way)
    assert len(proto.graph.initializer) < 10
    graph = load_onnx(proto)
    _check(compare(net, graph, (x,)))
    assert sum(not each.requires_grad for each in graph.parameters()) == 4


class _Placed(nn.Module):
    """A dense layer on inputs with their places added, which are a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.gain = nn.Linear(4, 4), nn.Parameter(torch.randn(1))
        self.register_buffer("places", torch.randn(5, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.places) * self.gain + self.places.sin()


def test_what_the_exporter_calls_a_buffer_is_not_trained() -> None:
    torch.manual_seed(0)
    net, x = _Placed(), torch.randn(3, 5, 4, requires_grad=True)
    graph = load_onnx(export(net, (x,), Way(True, 20)))
    _check(compare(net, graph, (x,)))
    fixed = [name for name, each in graph.named_parameters() if not each.requires_grad]
    assert len(fixed) == 2
    assert "places" in fixed


def test_a_bias_of_zeros_may_be_dropped() -> None:
    model = nn.Sequential(nn.Conv1d(3, 2, 1), nn.Tanh())
    torch.nn.init.zeros_(model[0].bias)
    x = torch.randn(2, 3, 4, requires_grad=True)
    for new, missing in ((True, ("0.bias",)), (False, ())):
        found = compare(model, load_onnx(export(model, (x,), Way(new, 20))), (x,))
        assert found.unmatched == missing
        assert found.worst < LIMIT


def test_another_net_does_not_agree() -> None:
    x = torch.randn(3, 6, requires_grad=True)
    model = net("MLP", Way(False, 17))
    graph = load_onnx(export(model, (x,), Way(False, 17)))
    model[1] = nn.Softsign()
    found = compare(model, graph, (x,))
    assert found.errors["output"] > LIMIT
    assert found.errors["0.weight"] > LIMIT
    with torch.no_grad():
        model[2].weight[0, 0] += 1e-6
    assert compare(model, graph, (x,)).unmatched == ("2.weight",)
