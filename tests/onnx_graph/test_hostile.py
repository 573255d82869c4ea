"""Broken and hostile ONNX models: each is refused in one line, before it can do harm."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, TensorProto, helper

from gradaudit.errors import GradauditError, RefusedFile
from gradaudit.onnx_graph import calls, external
from gradaudit.onnx_graph.loading import load_onnx
from tests.command import python, run
from tests.onnx_graph.models import B, W, model_of, node, outside, small, tensor

INT, STRING = AttributeProto.INT, AttributeProto.STRING
NAME = "<script>alert(1)</script>\x1b[31m\n" + "n" * 10_000
PLAIN = helper.make_opsetid("", 17)
MINE = helper.make_opsetid("mine", 1)


def refusal(source: Any) -> str:
    """The one line that loading ``source`` raises."""
    with pytest.raises(GradauditError) as caught:
        load_onnx(source)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 700, text
    return text


def changed(change: Callable[[ModelProto], Any]) -> ModelProto:
    """The small model, changed."""
    model = small()
    change(model)
    return model


def with_tensor(change: Callable[[TensorProto], Any]) -> ModelProto:
    """The small model with its ``w``, six floats, changed."""

    def _change(model: ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(tensor("w", np.arange(6, dtype=np.float32)))
        change(model.graph.initializer[0])

    return changed(_change)


def typed(field: str, values: list[Any], kind: int, *dims: int) -> ModelProto:
    proto = TensorProto(name="w", data_type=kind, dims=dims)
    getattr(proto, field).extend(values)
    return changed(lambda m: m.graph.initializer[0].CopyFrom(proto))


def relu(**fields: Any) -> ModelProto:
    return model_of([helper.make_node("Relu", ["x"], ["y"], **fields)])


def nested(depth: int, graph: GraphProto | None = None) -> GraphProto:
    """A graph of Ifs within each other, built from the inside: parsed, it is too deep."""
    outer = graph or GraphProto(name="g")
    inner = outer
    for _ in range(depth):
        step = inner.node.add(op_type="If", input=["x"], output=["y"])
        inner = step.attribute.add(name="then_branch", type=AttributeProto.GRAPH).g
        inner.output.add(name="x")
    return outer


def setting(model: ModelProto, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(model, name, value)


def attribute(**fields: Any) -> ModelProto:
    """A Relu with one attribute, made of these fields."""
    model = relu()
    made = model.graph.node[0].attribute.add(name="alpha")
    for name, value in fields.items():
        setattr(made, name, value)
    return model


HEADERS: dict[str, tuple[Callable[[], Any], str]] = {
    "empty": (lambda: b"", "is empty"),
    "garbage": (lambda: b"\xff\x00garbage", "damaged or truncated, or no ONNX model"),
    "cut": (lambda: small().SerializeToString()[:-20], "damaged or truncated"),
    "another message": (lambda: b"\x08\x08\x12\x07pytorch", "holds no graph"),
    "no graph": (lambda: changed(lambda m: m.ClearField("graph")), "holds no graph"),
    "no opset": (lambda: changed(lambda m: m.ClearField("opset_import")), "which opset"),
    "no IR": (lambda: changed(lambda m: m.ClearField("ir_version")), "IR version is 0"),
    "new IR": (lambda: changed(lambda m: setting(m, ir_version=99)), "IR version is 99"),
    "new opset": (lambda: changed(lambda m: setting(m.opset_import[0], version=99)), "of opset 99"),
    "huge opset": (
        lambda: changed(lambda m: m.opset_import.add(domain="a", version=2**40)),
        f"opset {2**40}",
    ),
    "old opset": (
        lambda: changed(lambda m: setting(m.opset_import[0], version=0)),
        "is of opset 0; expected 1 or newer",
    ),
    "opset of another age": (
        lambda: changed(lambda m: setting(m.opset_import[0], version=1)),
        "convert it: onnx.version_converter",
    ),
    "two opsets": (
        lambda: changed(lambda m: m.opset_import.add(domain="ai.onnx", version=9)),
        "imports a domain twice",
    ),
    "other opset": (
        lambda: changed(lambda m: setting(m.opset_import[0], domain="mine")),
        "of which the graph imports no version",
    ),
    "no outputs": (lambda: changed(lambda m: m.graph.ClearField("output")), "no outputs"),
}


def graph_of(*nodes: Any) -> ModelProto:
    return model_of([helper.make_node(*each) for each in nodes])


STRUCTURE: dict[str, tuple[Callable[[], Any], str]] = {
    "unmade": (lambda: graph_of(("Add", ["x", "z"], ["y"], "sum")), "'sum' reads 'z', which noth"),
    "order": (
        lambda: graph_of(("Relu", ["h"], ["y"], "late"), ("Relu", ["x"], ["h"], "early")),
        "node 'late' reads 'h' before node 'early' has run",
    ),
    "cycle": (
        lambda: graph_of(
            ("Relu", ["x"], ["a"], "in"),
            ("Add", ["a", "d"], ["b"], "one"),
            ("Relu", ["b"], ["c"], "two"),
            ("Relu", ["c"], ["d"], "three"),
            ("Relu", ["d"], ["y"], "out"),
        ),
        "wait for each other: node 'one', node 'three', node 'two'",
    ),
    "self": (lambda: graph_of(("Relu", ["y"], ["y"], "me")), "wait for each other: node 'me'"),
    "twice": (
        lambda: graph_of(("Relu", ["x"], ["y"], "a"), ("Abs", ["x"], ["y"], "b")),
        "node 'b' makes 'y', which is there already",
    ),
    "an input made": (lambda: graph_of(("Relu", ["x"], ["x"], "a")), "makes 'x', which is there"),
    "output": (lambda: graph_of(("Relu", ["x"], ["z"])), "nothing makes 'y', an output of the gra"),
    "inputs": (lambda: changed(lambda m: m.graph.input.add(name="x")), "input of the graph is th"),
    "outputs": (lambda: changed(lambda m: m.graph.output.add(name="y")), "output of the graph is "),
    "initializers": (
        lambda: changed(lambda m: m.graph.initializer.add().CopyFrom(tensor("w", B))),
        "initializer of the graph is there twice: 'w'",
    ),
    "no name": (
        lambda: changed(lambda m: m.graph.initializer.add().CopyFrom(tensor("", B))),
        "initializer of the graph has no name",
    ),
    "no result": (lambda: graph_of(("Relu", ["x"], []), ("Relu", ["x"], ["y"])), "makes nothing"),
    "no operand": (lambda: graph_of(("Add", ["x", ""], ["y"])), "expected an input B; found none"),
    "operands": (lambda: graph_of(("Relu", ["x", "x"], ["y"])), "at most 1 inputs; found 2"),
    "results": (lambda: graph_of(("Relu", ["x"], ["y", "z"])), "1 to 1 outputs; found 2"),
    "not UTF-8": (
        lambda: relu(name="abcde").SerializeToString().replace(b"abcde", b"\xff\xfe\xfdde"),
        "is no text",
    ),
    "long name": (
        lambda: graph_of(("Relu", [NAME], ["y"], NAME)),
        "'<script>alert(1)</script>\\x1",
    ),
    "long type": (lambda: relu(name=NAME, domain=NAME), "operator <script>alert(1)"),
    "deep": (
        lambda: changed(lambda m: nested(500, m.graph)),
        "subgraphs within each other; expected at most 32 deep",
    ),
    "no constant": (lambda: graph_of(("Constant", [], ["y"])), "expected one value; found none"),
    "constants": (
        lambda: model_of([helper.make_node("Constant", [], ["y"], value_int=1, value_float=2.0)]),
        "expected one value; found ['value_float', 'value_int']",
    ),
    "odd constant": (
        lambda: model_of([helper.make_node("Constant", [], ["y"], value_integer=1)]),
        "expected one value; found ['value_integer']",
    ),
    "constant's type": (
        lambda: model_of([helper.make_node("Constant", [], ["y"], value_int="one")]),
        "expected attribute value_int as INT; found STRING",
    ),
    "attribute's type": (
        lambda: model_of([helper.make_node("Elu", ["x"], ["y"], alpha="1")]),
        "expected attribute alpha as FLOAT; found STRING",
    ),
    "no attribute": (lambda: graph_of(("Cast", ["x"], ["y"])), "an attribute to; found none"),
    "attribute twice": (
        lambda: changed(
            lambda m: [m.graph.node[0].attribute.add(name="a", type=INT) for _ in range(2)]
        ),
        "has an attribute twice",
    ),
    "untyped": (lambda: attribute(i=3), "has no type"),
    "another field": (lambda: attribute(i=3, type=STRING), "expected one STRING; found i"),
    "two fields": (lambda: attribute(i=3, f=3.0, type=INT), "expected one INT; found f, i"),
    "no graph": (lambda: attribute(type=AttributeProto.GRAPH), "one GRAPH; found nothing"),
    "reference": (lambda: attribute(type=INT, ref_attr_name="a"), "refers to a function's attrib"),
    "not known": (lambda: attribute(i=3, type=INT), "attribute 'alpha' of Relu (the node that"),
}


def sized(change: Callable[[TensorProto], Any]) -> Callable[[], ModelProto]:
    return lambda: with_tensor(change)


def reshaped(*dims: int) -> Callable[[], ModelProto]:
    return sized(lambda t: (t.ClearField("dims"), t.dims.extend(dims)))


def sparse(values: Any, indices: Any, dims: list[int]) -> ModelProto:
    proto = helper.make_sparse_tensor(tensor("w", values), tensor("", indices), dims)

    def _change(model: ModelProto) -> None:
        del model.graph.initializer[0]
        model.graph.sparse_initializer.append(proto)

    return changed(_change)


ONES = np.ones(2, np.float32)
TENSORS: dict[str, tuple[Callable[[], Any], str]] = {
    "negative": (reshaped(-2, -3), "declares the shape [-2, -3]"),
    "too large": (reshaped(7), "expected 28 bytes; found 24"),
    "too small": (reshaped(5), "expected 20 bytes; found 24"),
    "huge": (reshaped(2**40), "expected 4,398,046,511,104 bytes; found 24"),
    "overflow": (reshaped(2**62, 2**62), "declares the shape"),
    "overflow to six": (reshaped(2**32, 2**32, 6), "declares the shape"),
    "empty overflow": (reshaped(0, 2**62, 2**62), "declares the shape"),
    "dimensions": (reshaped(*[1] * 100_000), "has 100,000 dimensions"),
    "no type": (sized(lambda t: setting(t, data_type=0)), "of no type that ONNX has"),
    "unknown type": (sized(lambda t: setting(t, data_type=77)), "found type 77"),
    "other type": (sized(lambda t: setting(t, data_type=11)), "expected 48 bytes; found 24"),
    "segment": (sized(lambda t: t.segment.SetInParent()), "is a part of a tensor"),
    "two fields": (sized(lambda t: t.float_data.append(1)), "does not keep any; found float_data"),
    "no data": (sized(lambda t: t.ClearField("raw_data")), "expected 6 in float_data; found 0"),
    "field": (lambda: typed("int32_data", [1], TensorProto.FLOAT, 1), "found int32_data"),
    "count": (lambda: typed("float_data", [1], TensorProto.FLOAT, 10**9), "1,000,000,000 in float"),
    "complex": (lambda: typed("float_data", [1], TensorProto.COMPLEX64, 1), "expected 2 in float_"),
    "range": (lambda: typed("int32_data", [300], TensorProto.UINT8, 1), "out of the range of uin"),
    "strings": (lambda: typed("string_data", [b"a"], TensorProto.STRING, 9), "9 in string_data; f"),
    "raw strings": (
        sized(lambda t: setting(t, data_type=TensorProto.STRING)),
        "expected 6 in string_data; found 0",
    ),
    "in a constant": (
        lambda: model_of(
            [helper.make_node("Constant", [], ["y"], value=TensorProto(data_type=1, dims=[2**50]))]
        ),
        "attribute 'value' of the node that makes 'y'",
    ),
    "sparse shape": (lambda: sparse(ONES, [0, 1], [2**20, 2**20]), "elements and stores 2"),
    "sparse overflow": (lambda: sparse(ONES, [0, 1], [2**62, 2]), "declares the shape"),
    "sparse indices": (lambda: sparse(ONES, [0, 1, 2], [4]), "do not fit its values"),
    "sparse ranks": (lambda: sparse(ONES, [[0, 1], [0, 2]], [4]), "do not fit its values"),
    "sparse out": (lambda: sparse(ONES, [0, 4], [4]), "out of its shape or out of order"),
    "sparse below": (lambda: sparse(ONES, [-1, 2], [4]), "out of its shape or out of order"),
    "sparse row": (lambda: sparse(ONES, [[0, 0], [0, 2]], [2, 2]), "out of its shape"),
    "sparse repeated": (lambda: sparse(ONES, [1, 1], [4]), "out of order"),
    "sparse type": (lambda: sparse(ONES, np.int32([0, 1]), [4]), "indices that are not int64"),
    "four bits": (
        sized(lambda t: setting(t, data_type=TensorProto.INT4)),
        "found tensors of type INT4 (initializer 'w')",
    ),
    "in memory": (
        lambda: model_of([node("Relu", "x", "y")], [outside("w", [2], location="w.bin")]),
        "give load_onnx the model's path",
    ),
}


def function(name: str, *nodes: Any, attributes: Any = (), defaults: Any = ()) -> FunctionProto:
    return helper.make_function(
        "mine", name, ["x"], ["y"], nodes, [PLAIN, MINE], attributes, list(defaults)
    )


def calling(*functions: FunctionProto, **given: Any) -> ModelProto:
    """A model that calls the first of the functions."""
    start = helper.make_node(functions[0].name, ["x"], ["y"], domain="mine", **given)
    return model_of([start], functions=functions, opset_imports=[PLAIN, MINE])


def call(name: str, given: str = "x", made: str = "y", **attributes: Any) -> Any:
    return helper.make_node(name, given.split(), made.split(), domain="mine", **attributes)


def doubling(depth: int) -> list[FunctionProto]:
    """Functions that call the next one twice."""
    made = [
        function(f"f{i}", call(f"f{i + 1}", "x", "h"), call(f"f{i + 1}", "h", "y"))
        for i in range(depth)
    ]
    return [*made, function(f"f{depth}", node("Relu", "x", "y"))]


def chain(depth: int) -> list[FunctionProto]:
    made = [function(f"f{i}", call(f"f{i + 1}")) for i in range(depth)]
    return [*made, function(f"f{depth}", node("Relu", "x", "y"))]


def referring(kind: int = AttributeProto.INT, name: str = "value_int") -> FunctionProto:
    """A function of a Constant whose value is the attribute ``a`` of the call."""
    made = helper.make_node("Constant", [], ["y"])
    made.attribute.add(name=name, type=kind, ref_attr_name="a")
    return function("f", made, attributes=["a"])


HEAVY = function("g", node("Constant", "", "y", value=tensor("", np.zeros(2**18, np.float32))))
FUNCTIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "itself": (lambda: calling(function("f", call("f"))), "call themselves: 'f'"),
    "each other": (
        lambda: calling(function("f", call("g")), function("g", call("f"))),
        "call themselves: 'f', 'g'",
    ),
    "twice": (
        lambda: calling(*[function("f", node("Relu", "x", "y")) for _ in range(2)]),
        "two functions of the model have the same name",
    ),
    "blow-up": (lambda: calling(*doubling(30)), "too many nodes; expected at most 100,000; found"),
    "huge blow-up": (lambda: calling(*doubling(3000)), "found far more"),
    "deep": (lambda: calling(*chain(3000)), "too many levels; expected at most 32"),
    "heavy": (
        lambda: calling(
            function("f", *[call("g", "x", f"y{i}") for i in range(300)], call("g")), HEAVY
        ),
        "too many bytes of constants",
    ),
    "no attribute": (lambda: calling(referring()), "lacks the attribute 'a'"),
    "attribute": (lambda: calling(referring(), a="b"), "expected INT; found STRING"),
    "graph": (
        lambda: calling(referring(), a=GraphProto(name="g")),
        "hands it a graph",
    ),
    "misfit": (lambda: calling(referring(STRING)), "value_int as INT; found STRING"),
    "inputs": (
        lambda: changed(
            lambda m: (
                m.functions.append(function("f", node("Relu", "x", "y"))),
                m.opset_import.append(MINE),
                m.graph.node.append(call("f", "x x", "q")),
            )
        ),
        "too many inputs; expected 1; found 2",
    ),
    "unmade": (lambda: calling(function("f", node("Add", "x w", "y"))), "reads 'w', which nothing"),
    "output": (lambda: calling(function("f", node("Abs", "x", "z"))), "'y', an output of function"),
    "old": (
        lambda: calling(
            helper.make_function(
                "mine", "f", ["x"], ["y"], [node("Relu", "x", "y")], [helper.make_opsetid("", 1)]
            )
        ),
        "operator Relu of opset 1",
    ),
}
CASES = {
    f"{group}: {name}": case
    for group, cases in (
        ("header", HEADERS),
        ("structure", STRUCTURE),
        ("tensor", TENSORS),
        ("function", FUNCTIONS),
    )
    for name, case in cases.items()
}


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str) -> None:
    make, words = CASES[case]
    assert words in refusal(make())


def test_subgraphs() -> None:
    """What holds for the graph holds for those within it; what is around them is seen."""

    def choice(*nodes: Any, after: Any = ()) -> ModelProto:
        branch = helper.make_graph(nodes, "branch", [], [onnx.ValueInfoProto(name="b")])
        made = helper.make_node(
            "If", ["x"], ["y"], "choice", then_branch=branch, else_branch=branch
        )
        return model_of([made, *after])

    assert "'z', which nothing" in refusal(choice(node("Add", "x z", "b")))
    assert "is there already" in refusal(choice(node("Relu", "x", "x"), node("Relu", "x", "b")))
    assert "nothing makes 'b', an output of 'else_branch'" in refusal(choice())
    late = choice(node("Relu", "z", "b"), after=[node("Relu", "x", "z")])
    assert "node 'choice' reads 'z' before node 'z' has run" in refusal(late)
    around = choice(node("Add", "x z", "b"), after=[node("Relu", "y", "z")])
    assert "wait for each other: node 'choice', node 'z'" in refusal(around)


def test_all_that_is_not_supported_is_told_at_once() -> None:
    kinds = ["Nothing", "Never", "Nothing", "Nothing", "Nothing", "Relu"]
    nodes = [helper.make_node(kind, ["x"], [f"y{i}"], f"n{i}") for i, kind in enumerate(kinds)]
    nodes[-1].attribute.add(name="slope", type=INT)
    eights = TensorProto(name="four", data_type=TensorProto.UINT4, dims=[2])
    called = function("f", node("Neverland", "x", "y"))
    unused = function("g", node("Unused", "x", "y"))
    text = refusal(
        model_of(
            [*nodes, call("f")],
            [eights],
            functions=[called, unused],
            opset_imports=[PLAIN, MINE],
        )
    )
    assert "operator Nothing of opset 17 (node 'n0' and 3 more)" in text
    assert "operator Never of opset 17 (node 'n1')" in text
    assert "operator Neverland of opset 17 (node 'y')" in text
    assert "attribute 'slope' of Relu (node 'n5')" in text
    assert "tensors of type UINT4 (initializer 'four')" in text
    assert "Unused" not in text
    few = [helper.make_node("Odd", ["x"], [f"y{i}"]) for i in range(5)]
    makers = "the node that makes 'y0', the node that makes 'y1', the node that makes 'y2' and 2 m"
    assert makers in refusal(model_of([*few, node("Relu", "x", "y")]))
    many = [helper.make_node(f"Odd{i}", ["x"], [f"y{i}"]) for i in range(5000)]
    assert "and 4992 more" in refusal(model_of([*many, node("Relu", "x", "y")]))


def test_nothing_is_lost_below_the_limits() -> None:
    """What is refused for its size is so for a reason of size alone."""
    assert load_onnx(calling(*doubling(5))) is not None
    assert load_onnx(calling(*chain(calls.DEEPEST - 1))) is not None
    assert load_onnx(calling(referring(), a=3)) is not None


def test_unmade_values_in_a_large_graph() -> None:
    """The way to a circle is found without recursion."""
    ring = [node("Relu", f"v{i}", f"v{(i + 1) % 5000}") for i in range(5000)]
    assert "and 4997 more" in refusal(model_of([*ring, node("Relu", "x", "y")]))


class TestExternal:
    """Data outside the model's file is read from plain files beside it, and nowhere else."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """``model/`` with ``w.bin``, and ``secret.bin`` beside it."""
        (tmp_path / "model" / "sub").mkdir(parents=True)
        (tmp_path / "secret.bin").write_bytes(W.tobytes())
        (tmp_path / "model" / "w.bin").write_bytes(W.tobytes())
        return tmp_path / "model"

    def refused(self, folder: Path, kind: type[GradauditError] | None = None, **place: Any) -> str:
        model = small()
        model.graph.initializer[0].CopyFrom(outside("w", W.shape, **place))
        onnx.save(model, folder / "m.onnx")
        with pytest.raises(kind or GradauditError):
            load_onnx(folder / "m.onnx")
        return refusal(folder / "m.onnx")

    @pytest.mark.parametrize(
        ("location", "words"),
        [("/etc/passwd", "an absolute path"), ("../secret.bin", "leads out of it"),
         ("sub/../../secret.bin", "leads out of it"), ("C:\\w.bin", "an absolute path"),
         ("\\w.bin", "an absolute path"), ("sub\\..\\w.bin", "leads out"), (".", "folder itself"),
         ("sub", "a folder, pipe or device"), ("pipe", "a folder, pipe or device"),
         ("socket", "found"), ("link.bin", "a symbolic link"), ("dir/secret.bin", "a symbolic li"),
         ("loop", "a symbolic link"), ("hard.bin", "a hard link"),
         ("zero", "a symbolic link")],
    )  # fmt: skip
    def test_ways_out(self, folder: Path, location: str, words: str) -> None:
        (folder / "link.bin").symlink_to("../secret.bin")
        (folder / "dir").symlink_to("..")
        (folder / "loop").symlink_to("loop")
        (folder / "zero").symlink_to("/dev/zero")
        os.link(folder.parent / "secret.bin", folder / "hard.bin")
        os.mkfifo(folder / "pipe")
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(folder / "socket"))
            kind = GradauditError if location == "socket" else RefusedFile
            assert words in self.refused(folder, kind, location=location)

    @pytest.mark.parametrize(
        ("place", "words"),
        [({"offset": "-4"}, "the offset of the data of initializer 'w' is no number of bytes"),
         ({"offset": "\u0663"}, "is no number"), ({"offset": "1e3"}, "is no number"),
         ({"length": "48 "}, "is no number"), ({"length": "9" * 5000}, "is no number"),
         ({"length": "-48"}, "is no number"), ({"offset": "4", "length": "48"}, "beyond the end"),
         ({"offset": "4"}, "expected 48 bytes; found 44"), ({"offset": "99"}, "beyond the end"),
         ({"length": "44"}, "expected 48 bytes; found 44"),
         ({"length": str(10**15)}, "beyond the end"), ({"location": "x.bin"}, "No such file"),
         ({"location": ""}, "is in no file"), ({"location": "w.bin/x"}, "Not a directory"),
         ({"location": "a\0b"}, "null"), ({"location": "n" * 5000}, "too long")],
    )  # fmt: skip
    def test_places(self, folder: Path, place: dict[str, str], words: str) -> None:
        assert words in self.refused(folder, **{"location": "w.bin", **place})

    def test_places_given_twice_or_not_at_all(self, folder: Path) -> None:
        model = small()
        for proto, words in (
            (outside("w", W.shape), "is in no file"),
            (outside("w", W.shape, location="w.bin"), "placed twice: 'location'"),
        ):
            if proto.external_data:
                proto.external_data.add(key="location", value="secret.bin")
            model.graph.initializer[0].CopyFrom(proto)
            onnx.save(model, folder / "m.onnx")
            assert words in refusal(folder / "m.onnx")

    def test_one_file_for_many_tensors(self, folder: Path) -> None:
        """A gigabyte in a file is a gigabyte in memory, not one for each tensor that names it."""
        many = [outside(f"w{i}", W.shape, location="w.bin") for i in range(2)]
        many[1].external_data[0].value = "./w.bin"
        onnx.save(model_of([node("Relu", "x", "y")], many), folder / "m.onnx")
        assert "shares its bytes with other tensors" in refusal(folder / "m.onnx")

    def test_more_than_the_machine_has(self, folder: Path) -> None:
        with (folder / "holes.bin").open("wb") as stream:
            stream.truncate(2**43)
        proto = outside("w", [2**41], location="holes.bin")
        onnx.save(model_of([node("Relu", "x", "y")], [proto]), folder / "m.onnx")
        assert "its tensors take 8,796,093,022,208 bytes" in refusal(folder / "m.onnx")

    def test_a_file_that_changes_after_it_was_checked(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checked = external.DataFolder.check

        def _exchange(data: external.DataFolder, *args: Any) -> None:
            checked(data, *args)
            data.__exit__()  # as when another file is read in between
            (folder / "w.bin").unlink()
            (folder / "w.bin").symlink_to("../secret.bin")

        monkeypatch.setattr(external.DataFolder, "check", _exchange)
        assert "a symbolic link" in self.refused(folder, RefusedFile, location="w.bin")

    def test_a_file_that_is_cut_while_it_is_read(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checked = external.DataFolder._find

        def _cut(data: external.DataFolder, *args: Any) -> Any:
            found = checked(data, *args)
            os.truncate(folder / "w.bin", 40)
            return found

        monkeypatch.setattr(external.DataFolder, "_find", _cut)
        (folder / "w.bin").write_bytes(W.tobytes())
        text = self.refused_once(folder)
        assert "shares its bytes" in text or "cut while it was read" in text

    def refused_once(self, folder: Path) -> str:
        model = small()
        model.graph.initializer[0].CopyFrom(outside("w", W.shape, location="w.bin"))
        onnx.save(model, folder / "m.onnx")
        return refusal(folder / "m.onnx")


class TestFiles:
    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "empty.onnx").touch()
        onnx.save(small(), tmp_path / "model.onnx")
        with (tmp_path / "large.onnx").open("wb") as stream:
            stream.truncate(2**31)
        for name, words in (
            ("pipe", "is not a regular file"),
            ("/dev/zero", "is not a regular file"),
            ("", "Is a directory"),
            ("empty.onnx", "empty.onnx is empty"),
            ("modle.onnx", "did you mean"),
            ("n" * 5000, "File name too long"),
            ("a\0b", "null"),
            ("large.onnx", "is of 2,147,483,648 bytes; expected at most 2,147,483,647"),
        ):
            assert words in refusal(os.path.join(tmp_path, name))

    def test_the_command(self, tmp_path: Path) -> None:
        """One line and exit code 2 for each."""
        models = {
            "cut": (small().SerializeToString()[:-20], "truncated"),
            "old": (HEADERS["old opset"][0]().SerializeToString(), "opset 0"),
            "loop": (FUNCTIONS["each other"][0]().SerializeToString(), "call themselves"),
            "huge": (TENSORS["huge"][0]().SerializeToString(), "cannot be opened: the data of"),
            "name": (STRUCTURE["long name"][0]().SerializeToString(), "which nothing makes"),
            "beside": (
                with_tensor(
                    lambda t: t.CopyFrom(outside("w", W.shape, location="../w"))
                ).SerializeToString(),
                "a path that leads out of it",
            ),
            "odd": (relu(domain="mine").SerializeToString(), "operator mine::Relu"),
        }
        for name, (content, words) in models.items():
            (tmp_path / f"{name}.onnx").write_bytes(content)
            ran = run(f"{name}.onnx", "--input", "float32[3,4]", cwd=tmp_path)
            assert ran.code == 2
            assert ran.out == ""
            (line,) = ran.said
            assert line.startswith(f"gradaudit: error: {name}.onnx ")
            assert words in line


CAPPED = """
import resource, sys
from gradaudit.errors import GradauditError
from gradaudit.onnx_graph.loading import load_onnx
import gradaudit.onnx_graph.build
from tests.onnx_graph.test_hostile import CASES
sources = {name: make() for name, (make, _) in CASES.items()}
try:
    load_onnx(sources["structure: unmade"])
except GradauditError:
    pass
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (100 << 20),) * 2)
for name, source in sources.items():
    try:
        load_onnx(source)
    except GradauditError as error:
        assert "no memory" not in str(error), name
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for its size")
def test_none_takes_memory() -> None:
    """All of them in a process that cannot grow by more than 100 MB."""
    ran = python("-c", CAPPED, cwd=Path(__file__).parents[2])
    assert ran.code == 0, ran.err[-2000:]


def rich() -> bytes:
    """A model with something of everything, as a file."""
    refers = referring()
    model = calling(
        function("f", call("g", "x", "h"), node("Constant", "", "c", value=tensor("", B)),
                 node("Add", "h c", "y")),
        function("g", node("Relu", "x", "y")),
    )  # fmt: skip
    refers.name = "k"
    model.functions.append(refers)
    model.graph.node.append(call("k", "x", "k", a=3))
    model.graph.node.append(node("Constant", "", "s", value_strings=["a", "b"]))
    model.graph.node.append(node("Elu", "x", "e", alpha=0.5))
    model.graph.initializer.append(tensor("w", W))
    model.graph.initializer.append(
        TensorProto(name="t", data_type=TensorProto.FLOAT16, dims=[2], int32_data=[1, 2])
    )
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(tensor("z", ONES), tensor("", [0, 3]), [2, 2])
    )
    branch = helper.make_graph(
        [node("Add", "x w", "b")], "branch", [], [onnx.ValueInfoProto(name="b")]
    )
    model.graph.input.append(helper.make_tensor_value_info("p", TensorProto.BOOL, []))
    model.graph.input.append(helper.make_tensor_value_info("n", TensorProto.INT64, ["rows", 2]))
    model.graph.node.append(node("If", "p", "i", then_branch=branch, else_branch=branch))
    model.graph.node.append(node("Gather", "w n", "q", axis=1))
    for name, kind, ends in (("/a/b/Relu", "Relu", "i j"), ("/a/b/Abs", "Abs", "j l")):
        model.graph.node.append(helper.make_node(kind, *[[end] for end in ends.split()], name))
    for each, scope in zip(model.graph.node, ("a", "a.b", "a.b"), strict=False):
        each.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=f"['', '{scope}', 'v']")
    model.graph.output.extend(onnx.ValueInfoProto(name=each) for each in "wtzekqlj")
    load_onnx(model)
    return model.SerializeToString()


RICH = rich()


@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(
    st.lists(st.tuples(st.integers(0, len(RICH) - 1), st.integers(0, 255)), max_size=3),
    st.tuples(st.integers(0, len(RICH)), st.binary(max_size=2)),
    st.just(len(RICH)) | st.integers(0, len(RICH)),
)
def test_any_bytes(flips: list[tuple[int, int]], inset: tuple[int, bytes], end: int) -> None:
    """Whatever bytes are changed, put in between or cut, it loads or is refused in one line."""
    content = bytearray(RICH)
    for place, value in flips:
        content[place] = value
    content[inset[0] : inset[0]] = inset[1]
    with suppress(GradauditError):
        load_onnx(bytes(content[:end]))
