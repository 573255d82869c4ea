"""Gradients of operators against finite differences, in float64 on their own node test inputs.

``python -m tests.onnx_graph.gradients [REGEX]`` prints what was checked and what fails.
"""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any
from zlib import crc32

import onnx
import torch
from onnx import TensorProto, defs
from torch import Tensor

from gradaudit.onnx_graph.loading import load_onnx
from tests.onnx_graph.node_cases import as_value, is_expanded, is_standard, node_cases

# Floating inputs that say how to compute, and are read as numbers: (operator, input).
SETTINGS = {
    ("Dropout", 1),  # ratio
    ("OneHot", 0),  # indices
    ("OneHot", 1),  # depth
    ("Resize", 1),  # roi
    ("Resize", 2),  # scales
    ("Upsample", 1),  # scales
}
_SLOW = 100  # entries of inputs above which directions are drawn instead of all being tried
_TYPES = ("dtype", "output_dtype", "precision", "softmax_precision", "stash_type", "to")
_HALVES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model of one node with every floating type that an attribute names being float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    node = wide.graph.node[0]
    known = defs.get_schema(node.op_type, wide.opset_import[0].version, node.domain).attributes
    if "stash_type" in known and not any(each.name == "stash_type" for each in node.attribute):
        node.attribute.add(name="stash_type", type=onnx.AttributeProto.INT, i=TensorProto.FLOAT)
    for each in node.attribute:
        if each.name in _TYPES and each.i in _HALVES:
            each.i = TensorProto.DOUBLE
    return wide


def given_inputs(case: Any) -> list[Any]:
    """The case's inputs, floating ones in float64 and wanting gradients but for the settings."""
    node = case.model.graph.node[0]
    settings = {node.input[i] for name, i in SETTINGS if name == node.op_type and i < len(node.input)}

    def wide(value: Any, varies: bool) -> Any:
        if isinstance(value, list):
            return [wide(each, varies) for each in value]
        if isinstance(value, Tensor) and value.is_floating_point():
            value = value.double().clone(memory_format=torch.contiguous_format)
            return value.requires_grad_(varies)
        return value

    names = [each.name for each in case.model.graph.input]
    inputs, _ = case.data_sets[0]
    return [
        wide(as_value(value), name not in settings)
        for name, value in zip(names, inputs, strict=True)
    ]


def moved(value: Any, sign: int, generator: torch.Generator) -> Any:
    """Every varying entry moved by 0.01 to 0.1, off kinks and ties, and made finite."""
    if isinstance(value, list):
        return [moved(each, sign, generator) for each in value]
    if not isinstance(value, Tensor) or not value.requires_grad:
        return value
    steps = 0.01 + 0.09 * torch.rand(value.shape, generator=generator, dtype=value.dtype)
    finite = value.detach().nan_to_num(0.5, 2.0, -2.0)
    return (finite + sign * steps).requires_grad_()


def tries(case: Any) -> Iterator[list[Any]]:
    """The case's inputs, and these moved up and down."""
    given = given_inputs(case)
    yield given
    for sign in (1, -1):
        generator = torch.Generator().manual_seed(crc32(case.name.encode()))
        yield [moved(each, sign, generator) for each in given]


def tensors(value: Any) -> list[Tensor]:
    """Those in nested lists and tuples."""
    if isinstance(value, (list, tuple)):
        return [t for each in value for t in tensors(each)]
    return [value] if isinstance(value, Tensor) else []


def check_gradients(case: Any) -> str:
    """``checked``, ``no gradient`` where no output depends smoothly on an input, or the fault."""
    fault = ""
    for given in tries(case):
        try:
            return _checked(case, given)
        except Exception as error:
            fault = fault or " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return fault


def _checked(case: Any, given: list[Any]) -> str:
    leaves = [t for t in tensors(given) if t.requires_grad]
    if not leaves:
        return "no gradient"
    model = load_onnx(widened(case.model))

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        queue = iter(values)

        def filled(item: Any) -> Any:
            if isinstance(item, list):
                return [filled(each) for each in item]
            return next(queue) if isinstance(item, Tensor) and item.requires_grad else item

        torch.manual_seed(0)
        results = tensors(model(*[filled(each) for each in given]))
        return tuple(results[i].where(results[i].isfinite(), 0) for i in smooth)

    smooth = [i for i, each in enumerate(tensors(model(*given))) if each.requires_grad]
    if not smooth:
        return "no gradient"
    fast = sum(leaf.numel() for leaf in leaves) > _SLOW
    torch.autograd.gradcheck(run, leaves, fast_mode=fast, check_undefined_grad=False)
    return "checked"


@cache
def cases_by_operator() -> dict[str, list[Any]]:
    """Node tests of one domain and standard types, not written out, by what they test."""
    found = defaultdict(list)
    for case in node_cases():
        if is_standard(case) and not is_expanded(case):
            found[case.model.graph.node[0].op_type].append(case)
    return dict(found)


def main() -> None:
    pattern = re.compile(sys.argv[1] if len(sys.argv) > 1 else "")
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    took: Counter[str] = Counter()
    none = set()
    for name, cases in sorted(cases_by_operator().items()):
        start = time.perf_counter()
        by = Counter()
        for case in cases:
            if not pattern.search(case.name):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = check_gradients(case)
            if found not in ("checked", "no gradient"):
                print(case.name, found)
                found = "failed"
            by[found] += 1
        if set(by)== {"no gradient"}: none.add(name)
        counts+=by
        took[name] = time.perf_counter() - start
    print(counts, took.most_common(12))
    print(sorted(none))


if __name__ == "__main__":
    main()
