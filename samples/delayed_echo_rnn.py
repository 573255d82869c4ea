"""A vanilla tanh RNN with recurrent weights far too large: gradients explode through time.

Recurrent weights are N(0, 2.5^2 / n). A random tanh network is chaotic above 1 (Sompolinsky et al.
1988), so over 40 steps the gradient grows by orders of magnitude and the first input is lost in
noise. The task is a delayed echo: say at the last step which symbol came at the first. With
orthogonal recurrent weights the same recipe learns it.

Run ``python samples/delayed_echo_rnn.py DIR`` to write ``model.pt`` (weights only: open it with
``--build samples/delayed_echo_rnn.py:model``) and ``data.safetensors``, or audit the code itself:
``gradaudit samples/delayed_echo_rnn.py:subject``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import gradaudit

STEPS, SYMBOLS, HIDDEN, GAIN = 40, 8, 64, 2.5


class DelayedEcho(nn.Module):
    """``float32[batch, 40, 8]`` to class scores ``float32[batch, 8]`` from the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(SYMBOLS, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, SYMBOLS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.rnn(x)
        scores: torch.Tensor = self.head(states[:, -1])
        return scores


def model(seed: int = 0) -> nn.Module:
    """The net with its recurrent weights drawn from N(0, 2.5^2 / n)."""
    torch.manual_seed(seed)
    net = DelayedEcho()
    nn.init.normal_(net.rnn.get_parameter("weight_hh_l0"), std=GAIN / HIDDEN**0.5)
    return net


def data() -> dict[str, torch.Tensor]:
    """2,048 sequences of random one-hot symbols, and the first symbol of each as the target."""
    generator = torch.Generator().manual_seed(1)
    symbols = torch.randint(SYMBOLS, (2048, STEPS), generator=generator)
    return {"x": nn.functional.one_hot(symbols, SYMBOLS).float(), "y": symbols[:, 0].contiguous()}


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
    torch.save(model().state_dict(), folder / "model.pt")
    save_file(data(), folder / "data.safetensors")
