"""A deep ReLU MLP left at PyTorch's default initialization: gradients shrink at every layer.

``nn.Linear`` draws weights of variance 1 / (3 fan_in), a sixth of the square gain that ReLU needs
(He et al. 2015), so the squared gradient falls sixfold at each of 30 layers and training stalls.
With He's weights the same recipe learns the task.

Run ``python samples/vanishing_relu_mlp.py DIR`` to write ``model.pt`` and ``data.safetensors``, or
audit the code itself: ``gradaudit samples/vanishing_relu_mlp.py:subject``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import gradaudit

WIDTH, DEPTH, CLASSES = 128, 30, 10


def model(seed: int = 0) -> nn.Module:
    """30 ReLU layers and a linear head, exactly as ``nn.Linear`` starts them."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for _ in range(DEPTH):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))


def data() -> dict[str, torch.Tensor]:
    """512 standard normal samples, labelled by a random linear teacher."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, WIDTH, generator=generator)
    teacher = torch.randn(WIDTH, CLASSES, generator=generator)
    return {"x": x, "y": (x @ teacher).argmax(dim=1)}


def subject() -> gradaudit.Subject:
    """The sample as gradaudit takes it from code: batches of 64, Adam at 3e-4."""
    arrays = data()
    return gradaudit.Subject(
        model(),
        sample=list(zip(arrays["x"].split(64), arrays["y"].split(64), strict=True)),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-4),
    )


if __name__ == "__main__":
    from safetensors.torch import save_file

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model(), folder / "model.pt")
    save_file(data(), folder / "data.safetensors")
