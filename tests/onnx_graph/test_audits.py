"""The audit of an export agrees with that of the net it came from."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gradaudit
from gradaudit import Settings
from tests.onnx_graph.audits import NEW, OLD, audits, differences
from tests.onnx_graph.exported import Way, export, net
from tests.onnx_graph.exported_nets import NETS, drawn

# Each net by one exporter and some by both; `python -m tests.onnx_graph.audits` takes all.
# Batch norm only as trained: an inference export folds it away.
PAIRS = [
    *((name, NEW) for name in ("MLP", "LSTM", "encoder", "GPT-2, sdpa", "U-Net", "soft experts")),
    *((name, OLD) for name in ("CNN", "ResNet", "RNN", "LSTM", "GRU", "bidirectional LSTM")),
    *((name, OLD) for name in ("two GRUs", "Transformer", "encoder", "GPT-2, eager", "generator")),
    ("top-2 experts", OLD),
]
# What an exporter changes for good, and what differs then.
CHANGED: dict[tuple[str, bool], set[str]] = {
    # Two layers are two nodes, so that there is a trunk where torch's one kernel shows none.
    ("bidirectional LSTM", False): {
        *("trunk", "stages", "recurrent", "growth_per_stage", "total_growth_log10", "gsc")
    },
    # Keys and values of the one decoder layer are projected elsewhere: other cuts of one path.
    ("Transformer", False): {"stages", "growth_per_stage"},
    # Positions are constant, so that the table of positions is folded into the rows used, and the
    # head's tied weight, turned, is a tensor of its own.
    ("GPT-2, sdpa", True): {"spectral norms"},
}


def test_every_net_is_compared() -> None:
    assert {name for name, _ in PAIRS} == set(NETS)


@pytest.mark.parametrize(("name", "way"), PAIRS, ids=str)
def test_audits_agree(name: str, way: Way) -> None:
    found = differences(*audits(name, way))
    found.pop("state", None)  # of weights this small: some forms of them are too small to tell
    assert set(found) <= CHANGED.get((name, way.new), set()), found


def test_what_an_inference_export_hides_is_told() -> None:
    report = audits("CNN", NEW)[1]
    missing = {each["what"]: each["why"] for each in report["not_measured"]}
    assert "folded into the weights" in missing["dropout and batch norm in training"]


def test_names_are_the_graphs() -> None:
    given = drawn("ResNet", 8)
    proto = export(net("ResNet", OLD), given, OLD)
    report = gradaudit.audit(
        gradaudit.load_onnx(proto), [(given, torch.zeros(8, 3))], settings=Settings(effort="quick")
    ).to_dict()
    nodes = {node.name for node in proto.graph.node}
    initializers = {each.name for each in proto.graph.initializer}
    rows: list[dict[str, Any]] = report["measurements"]["weights"]
    assert rows
    assert {row["parameter"] for row in rows} <= initializers
    assert {row["module"] for row in rows} <= nodes
    assert "conv" in rows[0]["kind"]
