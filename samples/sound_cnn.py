"""A small convolutional net that trains: the sample on which an audit has nothing to say.

The task is made here: 16 x 16 images of gratings in four orientations and two spacings under noise,
eight classes, scaled to zero mean and unit variance.

Run ``python samples/sound_cnn.py DIR`` to write ``model.pt`` and ``data.safetensors``, or audit the
code itself: ``gradaudit samples/sound_cnn.py:subject``.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import nn

import gradaudit

SIZE, ORIENTATIONS, SPACINGS = 16, 4, (3.0, 6.0)


def model(seed: int = 0) -> nn.Module:
    """Two convolutions with batch norm and pooling, then a linear head."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (SIZE // 4) ** 2, ORIENTATIONS * len(SPACINGS)),
    )


def data() -> dict[str, torch.Tensor]:
    """512 noisy gratings of random phase, float32[512,1,16,16], and their class."""
    generator = torch.Generator().manual_seed(1)
    count = 512
    y = torch.randint(ORIENTATIONS * len(SPACINGS), (count,), generator=generator)
    angle = (y % ORIENTATIONS) * math.pi / ORIENTATIONS
    spacing = torch.tensor(SPACINGS)[y // ORIENTATIONS]
    phase = 2 * math.pi * torch.rand(count, generator=generator)
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    across = (angle.cos()[:, None, None] * column + angle.sin()[:, None, None] * row) / spacing[
        :, None, None
    ]
    wave = torch.sin(2 * math.pi * across + phase[:, None, None])
    x = (wave + torch.randn(wave.shape, generator=generator)) / 1.5**0.5  # variances 1/2 and 1
    return {"x": x[:, None].contiguous(), "y": y}


def subject() -> gradaudit.Subject:
    """The sample as gradaudit takes it from code: batches of 64, Adam at 1e-3."""
    arrays = data()
    return gradaudit.Subject(
        model(),
        sample=list(zip(arrays["x"].split(64), arrays["y"].split(64), strict=True)),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    )


if __name__ == "__main__":
    from safetensors.torch import save_file

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model(), folder / "model.pt")
    save_file(data(), folder / "data.safetensors")
