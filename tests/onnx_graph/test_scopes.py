"""Nodes as the module calls they were exported from."""

from __future__ import annotations

import pytest
from onnx import NodeProto, helper

from gradaudit.onnx_graph.scopes import Run, Scope, class_names, runs, scopes_of


def named(*names: str) -> list[NodeProto]:
    return [helper.make_node("Relu", ["x"], ["y"], name=name) for name in names]


def told(names: str, classes: str = "[]") -> NodeProto:
    (node,) = named("node_relu")
    for key, value in (("name_scopes", names), ("class_hierarchy", classes)):
        node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    return node


def paths(nodes: list[NodeProto]) -> list[list[str]]:
    return [[scope.path for scope in scopes] for scopes in scopes_of(nodes)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/Relu", []),
        ("/fc/Relu", ["fc"]),
        ("/net/net.0/Relu", ["net", "net.0"]),
        ("/enc/layers.0/fc1/Relu", ["enc", "enc.layers.0", "enc.layers.0.fc1"]),
        ("/layer1/layer1.0/conv1/Relu", ["layer1", "layer1.0", "layer1.0.conv1"]),
        ("node_relu", []),
        ("", []),
        ("/" * 3, ["", ""]),
    ],
)  # fmt: skip
def test_the_older_exporter_tells_by_names(name: str, expected: list[str]) -> None:
    assert paths(named(name)) == [expected]


def test_the_newer_exporter_tells_in_metadata() -> None:
    node = told(
        "['', 'enc', 'enc.layers.0', 'relu']", "['m.Net', 'a.Encoder', 'b.Block', 'aten.relu']"
    )
    assert scopes_of([node]) == [(Scope("enc", "Encoder"), Scope("enc.layers.0", "Block"))]


@pytest.mark.parametrize(
    "names",
    ["", "[", "['a', 1]", "{'a': 1}", "__import__('os').system('false')", "[" * 5000, "x" * 20_000],
)
def test_metadata_that_is_no_list_of_names_tells_nothing(names: str) -> None:
    assert paths([told(names)]) == [[]]


def test_a_node_of_which_nothing_is_told_lies_with_its_neighbours() -> None:
    inside = [told("['', 'a', 'a.b', 'relu']"), *named("split"), told("['', 'a', 'a.c', 'relu']")]
    assert paths(inside) == [["a", "a.b"], ["a"], ["a", "a.c"]]
    assert paths([*named("first"), told("['', 'a', 'relu']"), *named("last")]) == [[], ["a"], []]
    lost = told("['', 'a', '_empty_nn_module_stack_from_metadata_hook', 'split']")
    assert paths([told("['', 'a', 'x']"), lost, told("['', 'a', 'y']")])[1] == ["a"]


def shape(found: tuple[Run, ...]) -> list[object]:
    return [run.node if run.scope is None else (run.path, shape(run.inside)) for run in found]


def test_runs_are_nested_and_a_node_alone_stays_one() -> None:
    nodes = named("/a/a.0/x", "/a/a.0/y", "/a/a.1/x", "/Add", "/a/a.0/x", "/a/a.0/y")
    found = runs(scopes_of(nodes))
    assert shape(found) == [("a", [("a.0", [0, 1]), 2]), 3, ("a", [("a.0", [4, 5])])]
    assert [n for run in found for n in run.nodes()] == list(range(6))


def test_classes_are_guessed_where_they_are_not_told() -> None:
    blocks = [f"/stack/stack.{i}/{part}/op" for i in (0, 1) for part in ("f", "g")]
    nodes = named(*blocks, "/head/x", "/head/y", "/side1/x", "/side1/y", "/side2/x", "/side2/y")
    found = runs(scopes_of(nodes))
    kinds = class_names(found)
    assert [kinds[id(run)] for run in found] == ["Sequential", "Scope", "Block", "Block"]
    assert [kinds[id(run)] for run in found[0].inside] == ["Block", "Block"]
