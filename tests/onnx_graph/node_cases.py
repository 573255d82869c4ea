"""ONNX's own backend node tests, run through gradaudit's operators.

``python -m tests.onnx_graph.node_cases [REGEX] [-v]`` prints how many pass, and what fails and why.
"""

from __future__ import annotations

import re
import sys
import traceback
import warnings
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from gradaudit.onnx_graph.loading import load_onnx
from gradaudit.onnx_graph.tensors import from_numpy, to_numpy

STANDARD_TYPES = frozenset(
    getattr(TensorProto, name)
    for name in (
        *("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "COMPLEX64", "COMPLEX128"),
        *("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    )
)


@cache
def node_cases() -> tuple[Any, ...]:
    """All of ONNX's node test cases, in the order ONNX gives them."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(collect_testcases(None))


def element_types(model: onnx.ModelProto) -> set[int]:
    """Element types of the model's inputs and outputs, inside sequences and optionals too."""
    found: set[int] = set()

    def look(kind: onnx.TypeProto) -> None:
        which = kind.WhichOneof("value")
        if which == "tensor_type":
            found.add(kind.tensor_type.elem_type)
        elif which is not None:
            look(getattr(kind, which).elem_type)

    for each in (*model.graph.input, *model.graph.output):
        look(each.type)
    return found


def is_single_domain(case: Any) -> bool:
    """Whether the case imports the standard operators only."""
    return [each.domain for each in case.model.opset_import] in ([""], ["ai.onnx"])


def is_standard(case: Any) -> bool:
    """Numeric tensors of standard types, of one domain, and no images (bodies aside)."""
    images = any(node.op_type == "ImageDecoder" for node in case.model.graph.node)
    kept = is_single_domain(case) or is_expanded(case)
    return kept and element_types(case.model) <= STANDARD_TYPES and not images


def is_expanded(case: Any) -> bool:
    """Whether the case is an operator written out as its function body."""
    return "_expanded" in case.name


def as_value(given: Any) -> Any:
    """A case's input as gradaudit's operators take it."""
    if isinstance(given, list):
        return [as_value(each) for each in given]
    if given is None:
        return None
    if isinstance(given, onnx.TensorProto):
        given = numpy_helper.to_array(given)
    if isinstance(given, onnx.SequenceProto):
        return [as_value(each) for each in numpy_helper.to_list(given)]
    if isinstance(given, onnx.OptionalProto):
        return as_value(numpy_helper.to_optional(given))
    return from_numpy(np.asarray(given))


def run_case(case: Any) -> None:
    """Run the case and compare at its own tolerances; raises what goes wrong."""
    model = load_onnx(case.model)
    for inputs, outputs in case.data_sets:
        with torch.no_grad():
            results = model(*[as_value(each) for each in inputs])
        results = results if len(model.output_names) > 1 else (results,)
        assert len(results) == len(outputs)
        for result, expected, name in zip(results, outputs, model.output_names, strict=True):
            same(result, expected, case.rtol, case.atol, name)


def same(result: Any, expected: Any, rtol: float, atol: float, name: str) -> None:
    """Compare one value with what the case expects, as ONNX's own runner does."""
    if isinstance(expected, list):
        assert isinstance(result, list), f"{name} is a {type(result).__name__}, not a sequence"
        assert len(result) == len(expected), f"{name} has {len(result)} items"
        for got, want in zip(result, expected, strict=True):
            same(got, want, rtol, atol, name)
        return
    if expected is None:
        assert result is None, f"{name} should be empty"
        return
    if isinstance(expected, onnx.TensorProto):
        expected = numpy_helper.to_array(expected)
    expected = np.asarray(expected)
    if isinstance(result, np.ndarray):
        got = result
    else:
        assert isinstance(result, torch.Tensor), f"{name} is a {type(result).__name__}"
        got = to_numpy(result)
        assert got.dtype == expected.dtype, f"{name} is {got.dtype}, not {expected.dtype}"
    assert got.shape == expected.shape, f"{name} has shape {got.shape}, not {expected.shape}"
    if got.dtype.kind in "OUSb":
        np.testing.assert_array_equal(got.astype(object), expected.astype(object))
    elif got.dtype.name.startswith(("bfloat", "float8")):
        wide = (got.astype(np.float32), expected.astype(np.float32))
        np.testing.assert_allclose(*wide, rtol=max(rtol, 2**-6), atol=atol)
    else:
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


def failures(cases: Any) -> dict[str, str]:
    """Why each case that fails does, by name."""
    found = {}
    for case in cases:
        try:
            run_case(case)
        except Exception as error:
            found[case.name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return found


def main() -> None:
    pattern = re.compile(next((a for a in sys.argv[1:] if a[0] != "-"), ""))
    verbose = "-v" in sys.argv
    torch.set_num_threads(1)
    groups = {
        "standard": [c for c in node_cases() if is_standard(c) and not is_expanded(c)],
        "expanded": [c for c in node_cases() if is_standard(c) and is_expanded(c)],
        "other": [c for c in node_cases() if not is_standard(c)],
    }
    for title, cases in groups.items():
        chosen = [case for case in cases if pattern.search(case.name)]
        found = failures(chosen)
        print(f"== {title}: {len(chosen) - len(found)} of {len(chosen)} pass")
        if verbose or len(found) <= 200:
            for name, why in found.items():
                print(f"  {name}: {why}")
                if verbose and len(found) < 5:
                    case = next(c for c in chosen if c.name == name)
                    try:
                        run_case(case)
                    except Exception:
                        traceback.print_exc()
        else:
            print(" ", Counter(why[:80] for why in found.values()).most_common(40))


if __name__ == "__main__":
    main()
