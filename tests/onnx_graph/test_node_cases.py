from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from onnx import TensorProto

from gradaudit.onnx_graph.loading import load_onnx
from tests.onnx_graph.node_cases import (
    as_value,
    element_types,
    failures,
    is_expanded,
    is_standard,
    node_cases,
    run_case,
)

# Other numbers than the case's, from another generator: compared by what they are drawn from.
DRAWN = (
    *("test_bernoulli", "test_bernoulli_double", "test_bernoulli_seed"),
    *("test_bernoulli_expanded", "test_bernoulli_double_expanded", "test_bernoulli_seed_expanded"),
    *("test_training_dropout", "test_training_dropout_mask"),
    *("test_training_dropout_default", "test_training_dropout_default_mask"),
)
# Closer than the case's own computation is to the exact value; by case: how far off that may be,
# relatively and absolutely. Whether they pass as they are is up to the processor.
ROUNDED = {
    "test_dft_inverse": (1e-3, 1e-6),  # 2e-7 for zeros
    "test_dft_inverse_opset19": (1e-3, 1e-6),
    "test_attention_4d_causal_fp16_expanded": (2e-3, 1e-7),  # steps of halves are 1e-3 apart
}
# Less than a byte: torch has no such types.
NARROW = {getattr(TensorProto, t) for t in ("INT2", "INT4", "UINT2", "UINT4", "FLOAT4E2M1")}


def is_narrow(case):
    return bool(element_types(case.model) & NARROW)


GROUPS = {
    "standard": (lambda c: is_standard(c) and not is_expanded(c), 1231, 1215),
    "expanded": (lambda c: is_standard(c) and is_expanded(c), 432, 425),
    "other": (lambda c: not is_standard(c) and not is_narrow(c), 139, 139),
}


@pytest.mark.parametrize("group", GROUPS)
def test_operators_pass_onnx_own_tests(group):
    belongs, count, floor = GROUPS[group]
    cases = [case for case in node_cases() if belongs(case)]
    assert len(cases) >= count
    failed = failures(cases)
    assert len(cases) - len(failed) >= floor
    assert not {name: why for name, why in failed.items() if name not in {*DRAWN, *ROUNDED}}


def test_narrow_types_are_refused_by_name():
    cases = [case for case in node_cases() if is_narrow(case)]
    failed = failures(cases)
    assert failed.keys() == {case.name for case in cases}
    told = re.compile(r"tensors of type (u?int[24]|float4)", re.IGNORECASE)
    assert not {name: why for name, why in failed.items() if not told.search(why)}


def named(name):
    (case,) = (each for each in node_cases() if each.name == name)
    return case


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_cases_are_close(name):
    rtol, atol = ROUNDED[name]
    run_case(replace(named(name), rtol=rtol, atol=atol))


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_cases_have_their_distribution(name):
    torch.manual_seed(0)
    case = named(name)
    inputs, expected = case.data_sets[0]
    x, *settings = (as_value(each) for each in inputs)
    model = load_onnx(case.model)
    runs = 1 if any(a.name == "seed" for n in case.model.graph.node for a in n.attribute) else 200
    ones = []
    for _ in range(runs):
        results = model(x, *settings)
        y, *mask = results if isinstance(results, tuple) else (results,)
        assert (y.shape, str(y.dtype).split(".")[1]) == (expected[0].shape, expected[0].dtype.name)
        if settings:  # dropout
            ones.append(y != 0)
            assert all(torch.equal(each, y != 0) for each in mask)
            torch.testing.assert_close(y, x * (y != 0) / (1 - settings[0]))
        else:
            assert ((y == 0) | (y == 1)).all()
            ones.append(y == 1)
    share = torch.full_like(x, 1 - settings[0]) if settings else x
    share = 1 - share if "_expanded" in name else share  # so ONNX writes it out
    deviation = torch.stack(ones).sum() - runs * share.sum()
    assert abs(deviation) < 4 * (runs * (share * (1 - share)).sum()).sqrt()
