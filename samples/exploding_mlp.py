"""A deep tanh MLP whose weights are too large: gradients grow at every layer.

Weights are N(0, 9 / fan_in). Mean field theory (Schoenholz et al. 2017) puts tanh's critical
variance near 1.8 / fan_in at small biases; here the squared gradient about doubles at each of 30
layers. The same net started at 1.8 / fan_in learns the task by the same recipe.

Run ``python samples/exploding_mlp.py DIR`` to write ``model.pt`` and ``data.safetensors``, or audit
the code itself: ``gradaudit samples/exploding_mlp.py:subject``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import gradaudit

WIDTH, DEPTH, CLASSES = 128, 30, 10


def model(seed: int = 0) -> nn.Module:
    """30 tanh layers with weight variance 9 / fan_in and a linear head."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for _ in range(DEPTH):
        layers += [nn.Linear(WIDTH, WIDTH), nn.Tanh()]
    net = nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=(9.0 / layer.in_features) ** 0.5)
            nn.init.normal_(layer.bias, std=0.05**0.5)
    return net


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
    from safetensors.torch import save_file

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model(), folder / "model.pt")
    save_file(data(), folder / "data.safetensors")
