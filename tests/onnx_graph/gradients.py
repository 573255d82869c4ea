"""Gradients of operators against finite differences, in float64 on their own node test inputs.

``python -m tests.onnx_graph.gradients [REGEX]`` prints what was checked and what fails.
"""

from __future__ import annotations

import re
import sys
import warnings
from typing import Any

import torch
from torch import Tensor

from gradaudit.onnx_graph.loading import load_onnx
from tests.onnx_graph.node_cases import as_value, is_expanded, is_standard, node_cases

_SLOW = 400  # entries above which directions are drawn instead of all being tried


def wide(value: Any) -> Any:
    """Floating values in float64, wanting gradients."""
    if isinstance(value, list):
        return [wide(each) for each in value]
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.double().requires_grad_()
    return value


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, (list, tuple)):
        return [t for each in value for t in _tensors(each)]
    return [value] if isinstance(value, Tensor) else []


def check_gradients(case: Any) -> str:
    """``checked``, ``no gradient`` where no output depends smoothly on an input, or the fault."""
    inputs, _ = case.data_sets[0]
    given = [wide(as_value(each)) for each in inputs]
    leaves = [t for t in _tensors(given) if t.requires_grad]
    if not leaves:
        return "no gradient"
    model = load_onnx(case.model)

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        queue = list(values)

        def filled(item: Any) -> Any:
            if isinstance(item, list):
                return [filled(each) for each in item]
            wanted = isinstance(item, Tensor) and item.requires_grad
            return queue.pop(0) if wanted else item

        torch.manual_seed(0)
        results = _tensors(model(*[filled(each) for each in given]))
        return tuple(r for r in results if r.requires_grad)

    if not run(*leaves):
        return "no gradient"
    fast = sum(leaf.numel() for leaf in leaves) > _SLOW
    torch.autograd.gradcheck(run, leaves, fast_mode=fast, check_undefined_grad=False)
    return "checked"


def differentiable_cases() -> list[Any]:
    """One domain, standard types, operators as nodes of their own."""
    return [case for case in node_cases() if is_standard(case) and not is_expanded(case)]


def main() -> None:
    pattern = re.compile(sys.argv[1] if len(sys.argv) > 1 else "")
    torch.set_num_threads(1)
    counts: dict[str, int] = {}
    for case in differentiable_cases():
        if not pattern.search(case.name):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = check_gradients(case)
            except Exception as error:
                found = "failed"
                print(case.name, " ".join(f"{type(error).__name__}: {error}".split())[:250])
        counts[found] = counts.get(found, 0) + 1
    print(counts)


if __name__ == "__main__":
    main()
