"""What loading an ONNX model gives, from wherever its tensors are."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

import gradaudit
from gradaudit.errors import GradauditError, UsageError
from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.names import Tree
from gradaudit.onnx_graph.tensors import DTYPES, from_numpy
from tests.command import python
from tests.onnx_graph.models import B, W, model_of, node, outside, small, tensor


def expected(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x * torch.from_numpy(W) + torch.from_numpy(B))


def holding(*protos: TensorProto) -> ModelProto:
    return model_of([node("Relu", "x", "y")], protos)


def value_of(proto: TensorProto, folder: Path | None = None) -> Any:
    """What an initializer is read as."""
    model = holding(proto)
    model.graph.output.append(onnx.ValueInfoProto(name=proto.name))
    if folder is not None:
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    with torch.no_grad():
        return load_onnx(model if folder is None else folder / "model.onnx")(torch.ones(2))[1]


def constant(**attributes: Any) -> Any:
    """What a Constant node is read as."""
    return load_onnx(model_of([helper.make_node("Constant", [], ["y"], **attributes)]))(
        torch.ones(1)
    )


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def test_sources_agree(tmp_path: Path, x: torch.Tensor) -> None:
    model, path = small(), tmp_path / "a model"
    onnx.save(model, path)
    for source in (model, model.SerializeToString(), path, str(path)):
        loaded = gradaudit.load_onnx(source)
        assert torch.equal(loaded(x), expected(x))
        assert torch.equal(loaded(x=x), expected(x))
        assert {n: p.shape for n, p in loaded.named_parameters()} == {"w": W.shape, "b": B.shape}
    assert model == small()  # a ModelProto stays as it is


def test_the_graph_may_be_called_through_a_link(tmp_path: Path, x: torch.Tensor) -> None:
    onnx.save(small(), tmp_path / "model.onnx")
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    assert torch.equal(load_onnx(tmp_path / "link.onnx")(x), expected(x))


@pytest.mark.parametrize(
    ("frozen", "free"), [(False, "wb"), (True, ""), ({"w"}, "b"), (["b", "w"], ""), ((), "wb")]
)
def test_frozen(frozen: Any, free: str) -> None:
    loaded = load_onnx(small(), frozen=frozen)
    assert {name for name, p in loaded.named_parameters() if p.requires_grad} == set(free)


@pytest.mark.parametrize(
    ("frozen", "word"),
    [(["v"], "no initializer 'v'"), (["ww"], "did you mean 'w'?"), ("w", "frozen is 'w'"),
     (3, "frozen is 3"), ([4], "no initializer 4")],
)  # fmt: skip
def test_frozen_names_are_the_models_own(frozen: Any, word: str) -> None:
    with pytest.raises(UsageError, match=word.replace("?", r"\?")):
        load_onnx(small(), frozen=frozen)


def test_other_sources_are_none() -> None:
    for source in (None, 3, b"", bytearray(b"x")):
        with pytest.raises(GradauditError):
            load_onnx(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", DTYPES, ids=TensorProto.DataType.Name)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3)], ids=str)
def test_types_and_ways_to_store_them(tmp_path: Path, kind: int, shape: tuple[int, ...]) -> None:
    array = (
        np.random.default_rng(0).integers(0, 2, shape).astype(helper.tensor_dtype_to_np_dtype(kind))
    )
    wanted = from_numpy(array)
    raw = numpy_helper.from_array(array, "w")
    assert raw.data_type == kind
    field = helper.tensor_dtype_to_field(kind)
    typed = TensorProto(name="w", data_type=kind, dims=shape)
    if field == "int32_data" and wanted.is_floating_point():
        array = array.view(f"u{array.itemsize}")
    elif wanted.dtype == torch.bool:
        array = array.astype(int)
    elif wanted.is_complex():
        array = np.stack([array.real, array.imag], -1)
    getattr(typed, field).extend(array.reshape(-1).tolist())
    (tmp_path / "w.bin").write_bytes(b"before" + raw.raw_data)
    length = len(raw.raw_data)
    beside = outside("w", shape, kind, location="w.bin", offset=6, length=length)
    for proto, folder in ((raw, None), (typed, None), (beside, tmp_path)):
        value = value_of(proto, folder)
        assert (value.dtype, value.shape) == (wanted.dtype, wanted.shape)
        bits = [each.reshape(-1).view(torch.uint8) for each in (value, wanted)]
        assert torch.equal(*bits)


def test_zeros_that_were_not_written() -> None:
    """Some of protobuf's dialects leave out what is zero."""
    zero = helper.make_node("Constant", [], ["y"])
    zero.attribute.add(name="value_int", type=AttributeProto.INT)
    assert load_onnx(model_of([zero]))(torch.ones(1)).item() == 0


def test_strings_and_odd_booleans() -> None:
    strings = helper.make_tensor("w", TensorProto.STRING, [2, 1], [b"one", "zw\u00f6lf".encode()])
    assert constant(value=strings).tolist() == [["one"], ["zw\u00f6lf"]]
    odd = TensorProto(name="w", data_type=TensorProto.BOOL, dims=[3], raw_data=b"\0\1\7")
    assert value_of(odd).tolist() == [False, True, True]
    assert value_of(odd).view(torch.uint8).tolist() == [0, 1, 1]


CONSTANTS = {
    "value": (tensor("", np.float64([1, 2])), torch.float64),
    "value_float": (1.5, torch.float32),
    "value_floats": ([1.5, 2], torch.float32),
    "value_int": (2**40, torch.int64),
    "value_ints": ([1, -2], torch.int64),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(name: str) -> None:
    given, dtype = CONSTANTS[name]
    value = constant(**{name: given})
    plain = numpy_helper.to_array(given).tolist() if isinstance(given, TensorProto) else given
    assert value.dtype == dtype
    assert torch.equal(value, torch.tensor(plain, dtype=dtype))


def test_string_constants() -> None:
    assert constant(value_string="a").tolist() == "a"
    assert constant(value_strings=["a", "b"]).tolist() == ["a", "b"]


def test_sparse_tensors() -> None:
    dense = torch.zeros(2, 3)
    dense[0, 1], dense[1, 2] = 5, 7
    values = tensor("w", np.float32([5, 7]))
    for indices in ([1, 5], [[0, 1], [1, 2]]):
        proto = helper.make_sparse_tensor(values, tensor("", np.int64(indices)), [2, 3])
        assert torch.equal(constant(sparse_value=proto), dense)
        model = model_of([node("Mul", "x w", "y")])
        model.graph.sparse_initializer.append(proto)
        model.graph.input.append(onnx.ValueInfoProto(name="w"))  # as old IR versions want it
        loaded = load_onnx(model)
        assert torch.equal(loaded(torch.ones(2, 3)), dense)
        assert [name for name, _ in loaded.named_parameters()] == ["w"]


@pytest.mark.parametrize("one_file", [True, False])
def test_external_data(tmp_path: Path, x: torch.Tensor, one_file: bool) -> None:
    model = small()
    convert_model_to_external_data(model, all_tensors_to_one_file=one_file, size_threshold=0)
    onnx.save(model, tmp_path / "model.onnx")
    assert len(list(tmp_path.iterdir())) == 2 + (not one_file)
    assert torch.equal(load_onnx(tmp_path / "model.onnx")(x), expected(x))


def test_external_data_in_a_folder_below_and_without_length(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w").write_bytes(b"1234" + W.tobytes())
    proto = outside("w", W.shape, location="./data/w", offset=4, note="anything")
    assert torch.equal(value_of(proto, tmp_path), torch.from_numpy(W))


def test_external_attributes_and_functions(tmp_path: Path, x: torch.Tensor) -> None:
    (tmp_path / "w").write_bytes(W.tobytes())
    (tmp_path / "b").write_bytes(B.tobytes())
    w, b = outside("w", W.shape, location="w"), outside("b", B.shape, location="b")
    scale = helper.make_function(
        "mine", "Scale", ["x"], ["y"],
        [node("Constant", "", "w", value=w), node("Mul", "x w", "y")],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Scale", ["x"], ["h"], domain="mine"),
        node("Constant", "", "b", value=b),
        node("Add", "h b", "s"),
        node("Relu", "s", "y"),
    ]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save(model_of(nodes, functions=[scale], opset_imports=imports), tmp_path / "model.onnx")
    assert torch.equal(load_onnx(tmp_path / "model.onnx")(x), expected(x))


def test_loaded_external_data_in_memory(tmp_path: Path, x: torch.Tensor) -> None:
    model = small()
    convert_model_to_external_data(model, size_threshold=0, location="data")
    onnx.save(model, tmp_path / "model.onnx")
    loaded = onnx.load(tmp_path / "model.onnx")
    for each in (loaded, onnx.load(tmp_path / "model.onnx").SerializeToString()):
        assert torch.equal(load_onnx(each)(x), expected(x))
    for each in loaded.graph.initializer:  # the data is there, and it still says where it was
        each.data_location = TensorProto.EXTERNAL
    assert torch.equal(load_onnx(loaded)(x), expected(x))


READ = """
import resource, sys
import torch, onnx
from gradaudit.onnx_graph.loading import load_onnx
import gradaudit.onnx_graph.operators.elementwise
load_onnx({small!r})
def read():
    return int(open("/proc/self/io").read().split()[1])
before, peak = read(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_onnx({path!r})
print(read() - before, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel what was read")
def test_external_data_is_read_once_and_held_once(tmp_path: Path) -> None:
    size = 100 << 20
    for name, count in (("small", 4), ("large", size)):
        proto = outside("w", [count], TensorProto.UINT8, location=f"{name}.bin")
        (tmp_path / f"{name}.onnx").write_bytes(holding(proto).SerializeToString())
        (tmp_path / f"{name}.bin").write_bytes(bytes(count))
    paths = {name: str(tmp_path / f"{name}.onnx") for name in ("small", "large")}
    code = READ.format(small=paths["small"], path=paths["large"])
    ran = python("-c", code, cwd=Path(__file__).parents[2])
    assert ran.code == 0, ran.err
    read, grown = map(int, ran.out.split())
    assert size <= read < size * 1.01
    assert grown < size * 1.1


def test_functions_with_attributes(x: torch.Tensor) -> None:
    refers = AttributeProto(name="value_float", type=AttributeProto.FLOAT, ref_attr_name="by")
    fixed = helper.make_node("Constant", [], ["c"])
    fixed.attribute.append(refers)
    times = helper.make_function(
        "mine", "Times", ["x"], ["y"], [fixed, node("Mul", "x c", "y")],
        [helper.make_opsetid("", 17)], attribute_protos=[helper.make_attribute("by", 3.0)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Times", ["x"], ["h"], domain="mine"),
        helper.make_node("Times", ["h"], ["y"], domain="mine", by=0.5),
    ]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    loaded = load_onnx(model_of(nodes, functions=[times], opset_imports=imports))
    assert torch.allclose(loaded(x), 1.5 * x)


def test_masks_are_told_by_all_their_entries() -> None:
    zeros, mask, weight = (np.zeros(70_000, np.float32) for _ in range(3))
    mask[-1], weight[0], weight[-1] = -np.inf, -np.inf, 0.1
    loaded = load_onnx(holding(*map(tensor, "zmw", (zeros, mask, weight))))
    free = {name for name, p in loaded.named_parameters() if p.requires_grad}
    assert free == {"z", "w"}


def test_names_that_many_have_and_deep_ones() -> None:
    """As many modules of one name, and as deep a tree, as a file can ask for."""
    root = torch.nn.Module()
    tree = Tree(root)
    for _ in range(2000):
        tree.add_module("a.b", torch.nn.Module())
    assert {"b", "b_", "b_2", "b_1999"} <= set(root.get_submodule("a")._modules)
    deep = ".".join("d" * 2000)
    tree.add_parameter(deep, torch.nn.Parameter(torch.ones(1)))
    assert [name for name, _ in root.named_parameters()] == [deep.replace(".", "_")]
    copy.deepcopy(root)


def test_dots_in_names(x: torch.Tensor) -> None:
    model = small()
    text = model.SerializeToString()
    assert torch.equal(load_onnx(text)(x), expected(x))
    for each in model.graph.node:
        each.name = "layer.0.act"
    assert torch.equal(load_onnx(model)(x), expected(x))
