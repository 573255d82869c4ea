"""ONNX's backend tests that are stored as files: whole models with inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.loader import DATA_DIR, load_model_tests

_DRAWN = 2**23  # entries of the largest weight that is drawn
KINDS = ("simple", "pytorch-converted", "pytorch-operator")
_PROTOS = {
    "tensor_type": onnx.TensorProto,
    "sequence_type": onnx.SequenceProto,
    "optional_type": onnx.OptionalProto,
}


@dataclass(frozen=True)
class Case:
    """One model, as :func:`tests.onnx_graph.node_cases.run_case` takes it."""

    name: str
    model: onnx.ModelProto
    data_sets: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


def stored_cases(kind: str) -> list[Case]:
    """All cases of a folder by name."""
    return sorted((_read(each) for each in load_model_tests(kind=kind)), key=lambda c: c.name)


def _read(test: Any) -> Case:
    folder = Path(test.model_dir)
    model = onnx.load(folder / "model.onnx")
    data_sets = [
        (_values(each, "input", model.graph.input), _values(each, "output", model.graph.output))
        for each in sorted(folder.glob("test_data_set_*"))
    ]
    assert data_sets, f"{test.name} has no data"
    return Case(test.name, model, data_sets, test.rtol, test.atol)


def _values(folder: Path, side: str, declared: Any) -> list[Any]:
    count = len(list(folder.glob(f"{side}_*.pb")))
    return [
        _value(folder / f"{side}_{i}.pb", each)
        for i, each in zip(range(count), declared, strict=False)
    ]


def _value(path: Path, declared: Any) -> Any:
    proto = _PROTOS[declared.type.WhichOneof("value")]()
    proto.ParseFromString(path.read_bytes())
    return proto


def light_networks() -> list[Path]:
    """The nine networks whose weights are constants made by their nodes."""
    return sorted(Path(DATA_DIR, "light").glob("light_*.onnx"))


def with_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with weights drawn from a seed where its nodes make constants.

    The largest stay constants, which pass a mean on.
    """
    rng = np.random.default_rng(0)
    known = {each.name: each for each in model.graph.initializer}
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            made.graph.node.append(node)
            continue
        shape = tuple(numpy_helper.to_array(known[node.input[0]]))
        inputs = int(np.prod(shape[1:]))
        if inputs * shape[0] > _DRAWN:
            value = numpy_helper.from_array(np.full(1, 1 / inputs, np.float32))
            made.graph.node.append(
                helper.make_node(node.op_type, node.input, node.output, value=value)
            )
        else:
            made.graph.initializer.append(
                numpy_helper.from_array(_drawn(shape, inputs, rng), node.output[0])
            )
    return made


def _drawn(shape: tuple[int, ...], inputs: int, rng: np.random.Generator) -> Any:
    if len(shape) == 1:  # a bias, a scale, a mean or a variance
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return rng.standard_normal(shape, np.float32) * np.float32((2 / inputs) ** 0.5)
