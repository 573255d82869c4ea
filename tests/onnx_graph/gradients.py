"""Gradients of operators against finite differences, in float64 on their own node test inputs.

``python -m tests.onnx_graph.gradients [REGEX]`` prints what was checked and what fails.
"""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from zlib import crc32

import onnx
import torch
from onnx import TensorProto, defs
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from gradaudit.onnx_graph.loading import load_onnx
from tests.onnx_graph.node_cases import as_value, is_expanded, is_standard, node_cases

_BITS = (16, 32, 64)
CHECKED, NONE = "checked", "no gradient"
# Floating inputs that are no values to differentiate by but say how to compute: (operator, input).
SETTINGS = {
    ("BitCast", 0),  # its bits
    ("Dropout", 1),  # ratio
    ("OneHot", 0),  # indices
    ("OneHot", 1),  # depth
    ("Resize", 1),  # roi
    ("Resize", 2),  # scales
    ("Upsample", 1),  # scales
}
# Integers in all of the operator's cases, where floating values may stand.
VALUES = {("SequenceInsert", 0), ("SequenceInsert", 1), ("Trilu", 0)}
# Where torch has no derivatives but the first, in reverse.
NO_FORWARD = {
    "Attention": "torch's fused attention",
    "GridSample": "torch's grid_sample",
    "test_scatter_elements_with_reduction_mul": "torch's scatter_reduce has products constant",
    "test_scatternd_multiply": "torch's scatter_reduce has products constant",
}
NO_SECOND = {"Attention": "torch's fused attention"}
# Where the derivative itself is not finite on the case's inputs.
INFINITE = {"test_acosh_example", *(f"test_mod_float_edge_cases_fmod_0_float{n}" for n in _BITS)}
# How far a gradient in these types may be from that in float64, as a share of its largest entry.
CLOSE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}

_SLOW = 30  # entries of inputs above which directions are drawn instead of all being tried
_SMALL = 1e-8  # absolute difference that rounding makes
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


def given_inputs(case: Any, *, wide: bool) -> list[Any]:
    """The case's inputs, if asked in float64; the floating ones but for settings want gradients."""
    node = case.model.graph.node[0]
    places = {name: (node.op_type, i) for i, name in enumerate(node.input)}
    names = [each.name for each in case.model.graph.input]

    def made(value: Any, place: Any) -> Any:
        if isinstance(value, list):
            return [made(each, place) for each in value]
        if not isinstance(value, Tensor):
            return value
        if place in SETTINGS or not (value.is_floating_point() or (wide and place in VALUES)):
            return value
        value = value.double() if wide else value
        # a copy, as gradcheck takes no strides of 0
        return value.clone(memory_format=torch.contiguous_format).requires_grad_()

    inputs, _ = case.data_sets[0]
    return [made(as_value(v), places.get(name)) for name, v in zip(names, inputs, strict=True)]


def moved(value: Any, sign: int, generator: torch.Generator) -> Any:
    """Every entry that wants a gradient moved by 0.01 to 0.1, off kinks and ties; all finite."""
    if isinstance(value, list):
        return [moved(each, sign, generator) for each in value]
    if not isinstance(value, Tensor) or not value.requires_grad:
        return value
    steps = 0.01 + 0.09 * torch.rand(value.shape, generator=generator, dtype=value.dtype)
    finite = value.detach().nan_to_num(0.5, 2.0, -2.0)
    return (finite + sign * steps).requires_grad_()


def tries(case: Any) -> Iterator[list[Any]]:
    """The case's inputs in float64, and these moved up and down."""
    given = given_inputs(case, wide=True)
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
    """``CHECKED``, ``NONE`` where no output depends smoothly on an input, or what is wrong."""
    fault = ""
    for given in tries(case):
        try:
            with warnings.catch_warnings():  # torch's own, the first time it goes forward
                warnings.simplefilter("ignore", DeprecationWarning)
                found = _compare_with_differences(case, given)
        except Exception as error:
            fault = fault or " ".join(f"{type(error).__name__}: {error}".split())[:300]
        else:
            return _compare_with_narrow(case) if found == CHECKED else found
    return fault


def _compare_with_differences(case: Any, given: list[Any]) -> str:
    leaves = [t for t in tensors(given) if t.requires_grad]
    run = _function(load_onnx(widened(case.model)), given) if leaves else None
    if run is None:
        return NONE
    operator = case.model.graph.node[0].op_type
    gradcheck(
        run,
        leaves,
        atol=_SMALL,
        fast_mode=sum(leaf.numel() for leaf in leaves) > _SLOW,
        check_undefined_grad=False,
        check_forward_ad=not NO_FORWARD.keys() & {operator, case.name},
    )
    if operator not in NO_SECOND:
        gradgradcheck(run, leaves, atol=_SMALL, fast_mode=True, check_undefined_grad=False)
    return CHECKED


def _function(model: Any, given: list[Any]) -> Callable[..., tuple[Tensor, ...]] | None:
    """From the inputs that want gradients to the finite parts of the outputs that have them."""

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
    return run if smooth else None


def _compare_with_narrow(case: Any) -> str:
    """Compare the gradient in the case's own types with that in float64, on the case's inputs."""
    exact = _gradient(load_onnx(widened(case.model)), given_inputs(case, wide=True))
    if not all(each.isfinite().all() for each in exact):
        return CHECKED if case.name in INFINITE else "the gradient is not finite"
    own, model = given_inputs(case, wide=False), load_onnx(case.model)
    kinds = {each.dtype for each in (*tensors(own), *tensors(model(*own)))}
    share = max(CLOSE.get(kind, 0.0) for kind in kinds)
    if not any(each.requires_grad for each in tensors(own)):
        return CHECKED
    for wide, narrow in zip(exact, _gradient(model, own), strict=True):
        largest = float(wide.abs().amax()) if wide.numel() else 0.0
        if not torch.allclose(narrow, wide, 0, share * largest + 1e-6):
            return f"in its own type the gradient is {narrow.tolist()}, not {wide.tolist()}"
    return CHECKED


def _gradient(model: Any, given: list[Any]) -> list[Tensor]:
    """In float64: the gradient of the outputs' sum with weights drawn from a seed."""
    torch.manual_seed(0)
    outputs = [each for each in tensors(model(*given)) if each.requires_grad]
    drawn = torch.Generator().manual_seed(0)
    weights = [torch.randn(y.shape, generator=drawn, dtype=torch.float64) for y in outputs]
    leaves = [t for t in tensors(given) if t.requires_grad]
    narrow = [w.to(y.dtype) for w, y in zip(weights, outputs, strict=True)]
    found = torch.autograd.grad(outputs, leaves, narrow, materialize_grads=True)
    return [each.double() for each in found]


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
    for name, cases in sorted(cases_by_operator().items()):
        start = time.perf_counter()
        found = {c.name: check_gradients(c) for c in cases if pattern.search(c.name)}
        took[name] = time.perf_counter() - start
        counts.update(why if why in (CHECKED, NONE) else "wrong" for why in found.values())
        for case, why in found.items():
            if why not in (CHECKED, NONE):
                print(case, why)
    print(dict(counts), f"{took.total():.0f} s, most for {took.most_common(6)}")


if __name__ == "__main__":
    main()
