"""A deep tanh net written as ONNX without PyTorch: gradients fade on their way back.

26 dense layers whose weights are N(0, 0.25 / inputs), a quarter of what tanh needs. Nodes and
initializers have names of their own (``dense_7``, ``dense_7.weight``), which the report uses.

Run ``python samples/vanishing_onnx.py DIR`` to write ``model.onnx`` and ``data.npz``, or audit the
code itself: ``gradaudit samples/vanishing_onnx.py:subject``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper, save
from torch import nn

import gradaudit

WIDTH, DEPTH, CLASSES = 64, 26, 10


def proto(seed: int = 0) -> ModelProto:
    """The model as ONNX: ``float32[batch, 64]`` to ``float32[batch, 10]``."""
    generator = np.random.default_rng(seed)
    nodes, initializers, value = [], [], "x"
    for i in range(DEPTH + 1):
        last = i == DEPTH
        outputs, name = (CLASSES, "head") if last else (WIDTH, f"dense_{i}")
        weight = generator.normal(0, 0.5 / WIDTH**0.5, (outputs, WIDTH)).astype(np.float32)
        bias = np.zeros(outputs, np.float32)
        initializers += [
            numpy_helper.from_array(weight, f"{name}.weight"),
            numpy_helper.from_array(bias, f"{name}.bias"),
        ]
        inputs, made = [value, f"{name}.weight", f"{name}.bias"], "logits" if last else f"sum_{i}"
        nodes.append(helper.make_node("Gemm", inputs, [made], name=name, transB=1))
        if not last:
            nodes.append(helper.make_node("Tanh", [made], [f"state_{i}"], name=f"tanh_{i}"))
        value = f"state_{i}"
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def model(seed: int = 0) -> nn.Module:
    """The same as a module."""
    return gradaudit.load_onnx(proto(seed))


def data() -> dict[str, torch.Tensor]:
    """512 samples: standard normal, labelled by a random linear teacher."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, WIDTH, generator=generator)
    teacher = torch.randn(WIDTH, CLASSES, generator=generator)
    return {"x": x, "y": (x @ teacher).argmax(dim=1)}


def subject() -> gradaudit.Subject:
    """The sample as gradaudit takes it from code: batches of 64, SGD at 0.1."""
    arrays = data()
    return gradaudit.Subject(
        model(),
        sample=list(zip(arrays["x"].split(64), arrays["y"].split(64), strict=True)),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    save(proto(), folder / "model.onnx")
    np.savez(folder / "data.npz", x=data()["x"].numpy(), y=data()["y"].numpy())
