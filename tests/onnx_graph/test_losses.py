from __future__ import annotations

import pytest
import torch

from tests.onnx_graph.single_node import check_gradients, check_same, ours


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [None, 1, -1])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
def test_losses_are_onnxruntimes(reduction, ignored, kind):
    torch.manual_seed(0)
    classes = torch.randint(0, 4, (3, 5)).to(kind)
    settings = {"reduction": reduction}
    if ignored is not None:
        settings["ignore_index"] = classes[0, 0] = ignored
    inputs = [torch.randn(3, 4, 5), classes, torch.rand(4)]
    check_same("NegativeLogLikelihoodLoss", inputs, opset=13, **settings)
    check_same("SoftmaxCrossEntropyLoss", inputs, opset=13, outputs=2, **settings)
    both = ours("SoftmaxCrossEntropyLoss", inputs, opset=13, outputs=2, **settings)
    torch.testing.assert_close(
        ours("SoftmaxCrossEntropyLoss", inputs, opset=13, **settings), both[0]
    )


@pytest.mark.parametrize("name", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_losses_differentiate(name):
    torch.manual_seed(0)
    scores, weights = torch.randn(3, 4, 2).double(), torch.rand(4, dtype=torch.float64)
    classes = torch.randint(0, 4, (3, 2))
    check_gradients(name, [scores, classes], opset=13, reduction="sum")
    found = ours(name, [scores, classes, weights], opset=13)
    assert found.dtype == torch.float64
