"""An LSTM forecaster fed its series as recorded, in thousands: the scale of the data stalls it.

The series is a made-up hourly load with a level near 4,000, a daily and a weekly rhythm and
autocorrelated noise; the net sees 48 hours and is to say the next. Inputs this large saturate every
gate, and the output layer would have to travel to 4,000 in steps the size of the learning rate.
``lstm_forecast_scaled.py`` is the same net on the same series, standardised.

Run ``python samples/lstm_forecast_raw.py DIR`` to write ``model.pt`` (weights only: open it with
``--build samples/lstm_forecast_raw.py:model``) and ``data.npz``, or audit the code itself:
``gradaudit samples/lstm_forecast_raw.py:subject``.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import nn

import gradaudit

WINDOW, HOURS, HIDDEN, LEVEL = 48, 1024, 32, 4000.0


class Forecaster(nn.Module):
    """``float32[batch, 48, 1]`` to the next value, ``float32[batch, 1]``."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(x)
        forecast: torch.Tensor = self.head(states[:, -1])
        return forecast


def model(seed: int = 0) -> nn.Module:
    """The net as PyTorch initializes it."""
    torch.manual_seed(seed)
    return Forecaster()


def series() -> torch.Tensor:
    """1,024 hours of load, float32[1024], in megawatts."""
    generator = torch.Generator().manual_seed(1)
    hour = torch.arange(HOURS, dtype=torch.float64)
    noise = torch.zeros(HOURS, dtype=torch.float64)
    shocks = 60.0 * torch.randn(HOURS, generator=generator, dtype=torch.float64)
    for i in range(1, HOURS):
        noise[i] = 0.9 * noise[i - 1] + shocks[i]
    daily = 1200.0 * torch.sin(2 * math.pi * hour / 24)
    weekly = 500.0 * torch.sin(2 * math.pi * hour / 168)
    return (LEVEL + daily + weekly + noise).float()


def data() -> dict[str, torch.Tensor]:
    """Every window of 48 hours, float32[976, 48, 1], and the hour that follows it, in megawatts."""
    load = series()
    return {"x": load.unfold(0, WINDOW, 1)[:-1, :, None].contiguous(), "y": load[WINDOW:, None]}


def subject() -> gradaudit.Subject:
    """The sample as gradaudit takes it from code: shuffled batches of 64, Adam at 1e-3."""
    arrays = data()
    order = torch.randperm(len(arrays["x"]), generator=torch.Generator().manual_seed(2))
    return gradaudit.Subject(
        model(),
        sample=[(arrays["x"][rows], arrays["y"][rows]) for rows in order.split(64)],
        loss="mse",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    )


if __name__ == "__main__":
    import numpy as np

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model().state_dict(), folder / "model.pt")
    arrays = data()
    np.savez(folder / "data.npz", x=arrays["x"].numpy(), y=arrays["y"].numpy())
