from __future__ import annotations

import pytest

from gradaudit.onnx_graph.registry import operators
from tests.onnx_graph.gradients import CHECKED, NONE, cases_by_operator, check_gradients

# Operators whose node tests have no output that depends smoothly on an input, and why.
NO_GRADIENT = {
    "truth values": """And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not
        OptionalHasElement Or Xor""",
    "indices, sizes, counts": """ArgMax ArgMin NonMaxSuppression NonZero Shape Size
        TfIdfVectorizer""",
    "bits": "BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor",
    "constants": """BlackmanWindow ConstantOfShape EyeLike HammingWindow HannWindow
        MelWeightMatrix""",
    "steps": "Hardmax",
    "integers, whose gradient the operators that read them carry on": """ConvInteger MatMulInteger
        QLinearConv QLinearMatMul QuantizeLinear""",
    "no input in its cases but the condition": "If",
}
WITHOUT = {name: why for why, names in NO_GRADIENT.items() for name in names.split()}


@pytest.mark.parametrize("name", sorted({name for domain, name in operators() if not domain}))
def test_gradients_are_those_of_differences(name):
    found = {case.name: check_gradients(case) for case in cases_by_operator().get(name, ())}
    assert not {case: why for case, why in found.items() if why not in (CHECKED, NONE)}
    assert (CHECKED in found.values()) == (bool(found) and name not in WITHOUT)


def test_every_gradient_left_out_is_of_an_operator_that_is_tested():
    assert WITHOUT.keys() <= cases_by_operator().keys()
