"""Strings, sequences, optionals, images and labels beyond ONNX's node tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradaudit.onnx_graph.node import NodeError
from gradaudit.onnx_graph.registry import find_operator
from tests.onnx_graph.small_models import ints, run_node, same_as_onnxruntime, strings

WORDS = strings("Monday", "tuesday", "", "MONDAY")
X = torch.arange(6.0).reshape(3, 2)
GRAMS = {
    "max_gram_length": 2,
    "min_gram_length": 1,
    "max_skip_count": 1,
    "ngram_counts": [0, 2],
    "ngram_indexes": [3, 0, 1, 2],
    "weights": [1.0, 0.5, 3.0, 2.0],
}

LIKE_ONNXRUNTIME: dict[str, tuple[Any, ...]] = {
    "concat": ("StringConcat", (WORDS, np.array("!", dtype=object)), {}),
    "split": ("StringSplit", (strings("a,b,,c", ",", "d"),), {"delimiter": ",", "maxsplit": 2}),
    "split_blanks": ("StringSplit", (strings("  a b ", "c"),), {}),
    "stop_words": ("StringNormalizer", (WORDS,), {"stopwords": ["monday"], "locale": "C"}),
    "stop_words_exactly": (
        "StringNormalizer",
        (WORDS.reshape(1, 4),),
        {
            "stopwords": ["tuesday"],
            "locale": "C",
            "is_case_sensitive": 1,
            "case_change_action": "UPPER",
        },
    ),
    "regex": ("RegexFullMatch", (WORDS,), {"pattern": "(?i)mon.*|"}),
    "grams_tf": ("TfIdfVectorizer", (ints(5, 6, 5, 6, 7),), {"mode": "TF"}),
    "grams_idf": ("TfIdfVectorizer", (ints(5, 6, 5, 6).reshape(2, 2),), {"mode": "IDF"}),
    "grams_tfidf": ("TfIdfVectorizer", (ints(5, 6, 5, 6, 7),), {"mode": "TFIDF"}),
    "sequence_parts": ("SplitToSequence", (X, torch.tensor(2)), {}),
    "sequence_sizes": ("SplitToSequence", (X, ints(1, 2)), {"axis": -2}),
    "sequence_slices": ("SplitToSequence", (X,), {"axis": 1, "keepdims": 0}),
    "sequence_stacked": ("ConcatFromSequence", ([X, X],), {"axis": -1, "new_axis": 1}),
    "sequence_insert": ("SequenceInsert", ([X, X], X[:1], torch.tensor(-2)), {}),
    "sequence_erase": ("SequenceErase", ([X, X[:1], X], torch.tensor(-3)), {}),
    "sequence_erase_last": ("SequenceErase", ([X, X[:1]],), {}),
    "sequence_at": ("SequenceAt", ([X, X[:1]], torch.tensor(-1)), {}),
    "sequence_length": ("SequenceLength", ([X, X[:1]],), {}),
}


@pytest.mark.parametrize("name", LIKE_ONNXRUNTIME)
def test_results_are_onnxruntimes(name: str) -> None:
    operator, values, attributes = LIKE_ONNXRUNTIME[name]
    if operator == "TfIdfVectorizer":
        attributes = {**GRAMS, "pool_int64s": [5, 6, 5, 6, 6, 7], **attributes}
    outputs = 2 if operator == "StringSplit" else 1
    same_as_onnxruntime(operator, *values, outputs=outputs, **attributes)


def test_sequences_of_wide_integers_and_strings_keep_their_type() -> None:
    parts = run_node("SplitToSequence", ints(1, 2).to(torch.uint32))
    assert [each.dtype for each in parts] == [torch.uint32, torch.uint32]
    joined = run_node("ConcatFromSequence", parts, axis=0)
    assert (joined.dtype, joined.tolist()) == (torch.uint32, [1, 2])
    words = run_node("SplitToSequence", WORDS, ints(1, 3))
    assert [each.tolist() for each in words] == [["Monday"], ["tuesday", "", "MONDAY"]]


def test_gradients_through_a_sequence() -> None:
    x = X.clone().requires_grad_()
    parts = run_node("SplitToSequence", x, torch.tensor(2))
    kept = run_node("SequenceErase", run_node("SequenceInsert", parts, 2 * x), torch.tensor(0))
    run_node("ConcatFromSequence", kept, axis=0).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[2.0, 2.0], [2.0, 2.0], [3.0, 3.0]]


@pytest.mark.parametrize(
    ("operator", "values", "attributes", "line"),
    [
        ("SequenceAt", ([X], torch.tensor(1)), {}, "position 1 where -1 to 0 were expected"),
        ("SequenceInsert", ([X], X, torch.tensor(2)), {}, "position 2 where -1 to 1 were"),
        ("SplitToSequence", (X, ints(1, 1)), {}, r"an axis of size 3 in parts of sizes \[1, 1\]"),
        ("StringNormalizer", (WORDS.reshape(2, 2),), {}, r"shape \[2, 2\] where \[C\] or \[1, C\]"),
        ("StringNormalizer", (WORDS,), {"case_change_action": "x"}, "'x' where one of NONE"),
        ("RegexFullMatch", (WORDS,), {"pattern": "("}, r"pattern '\('"),
        ("ImageDecoder", (X.byte(),), {"pixel_format": "HSV"}, "'HSV' where one of RGB"),
    ],
)
def test_error_lines(
    operator: str, values: tuple[Any, ...], attributes: dict[str, Any], line: str
) -> None:
    with pytest.raises(NodeError, match=line):
        run_node(operator, *values, **attributes)


def test_optionals() -> None:
    has, get = (find_operator("", f"Optional{n}Element", 18) for n in ("Has", "Get"))
    assert has is not None
    assert get is not None
    assert [bool(has.function(value)) for value in (X, [], None)] == [True, True, False]
    assert get.function(X) is X
    with pytest.raises(ValueError, match="an empty optional"):
        get.function(None)


def test_what_is_no_image_is_empty() -> None:
    assert run_node("ImageDecoder", torch.zeros(9, dtype=torch.uint8)).shape == (0, 0, 3)


def test_images_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(NodeError, match="Pillow, which is not installed"):
        run_node("ImageDecoder", torch.zeros(9, dtype=torch.uint8))


def _label(version: int, x: Any, **attributes: Any) -> Any:
    encoder = find_operator("ai.onnx.ml", "LabelEncoder", version)
    assert encoder is not None
    return encoder.function(x, **attributes)


def test_labels() -> None:
    names, places = strings("b", "z"), ints(1, 9)
    assert _label(1, names, classes_strings=["a", "b"]).tolist() == [1, -1]
    assert _label(1, places, classes_strings=["a", "b"]).tolist() == ["b", "_Unused"]
    floats = torch.tensor([torch.nan, 2.0, 3.0])
    keys = {"keys_floats": [torch.nan, 2.0], "values_floats": [0.5, 1.5], "default_float": 7.0}
    assert _label(2, floats, **keys).tolist() == [0.5, 1.5, 7.0]
    tensors = {"keys_tensor": ints(1, 1), "values_tensor": torch.tensor([0.5, 2.5]).double()}
    found = _label(4, places, **tensors)
    assert (found.dtype, found.tolist()) == (torch.float64, [2.5, 0.0])
    with pytest.raises(ValueError, match="2 keys for 1 values"):
        _label(4, places, keys_int64s=[1, 2], values_strings=["a"])


@pytest.mark.parametrize("post", range(4))
@pytest.mark.parametrize("aggregate", [0, 1, 2, 3])
def test_trees(aggregate: int, post: int) -> None:
    tree = find_operator("ai.onnx.ml", "TreeEnsemble", 5)
    assert tree is not None
    # x0 <= 1 ? (x1 > 0 ? leaf 0 : leaf 1) : leaf 2, and a second tree: x1 < 1 ? leaf 3 : leaf 0
    scores = tree.function(
        torch.tensor([[0.5, 0.5], [torch.nan, 2.0], [3.0, torch.nan]]),
        tree_roots=[0, 2],
        nodes_featureids=[0, 1, 1],
        nodes_splits=torch.tensor([1.0, 0.0, 1.0]),
        nodes_modes=torch.tensor([0, 3, 1], dtype=torch.uint8),
        nodes_truenodeids=[1, 0, 3],
        nodes_falsenodeids=[2, 1, 0],
        nodes_trueleafs=[0, 1, 1],
        nodes_falseleafs=[1, 1, 1],
        nodes_missing_value_tracks_true=[1, 0, 1],
        leaf_targetids=[0, 1, 1, 0],
        leaf_weights=torch.tensor([1.0, 2.0, 4.0, 8.0]),
        n_targets=2,
        aggregate_function=aggregate,
        post_transform=post,
    )
    leaves = {0: [[4.5, 0], [1, 0], [4, 2]], 1: [[9.0, 0], [2, 0], [8, 4]]}
    leaves |= {2: [[1.0, 0], [1, 0], [8, 4]], 3: [[8.0, 0], [1, 0], [8, 4]]}
    raw = torch.tensor(leaves[aggregate], dtype=torch.float32)
    nonzero = torch.where(raw == 0, -torch.inf, raw)
    expected = [raw, raw.softmax(-1), raw.sigmoid(), nonzero.softmax(-1)][post]
    assert torch.allclose(scores, expected)
