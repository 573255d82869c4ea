"""A small pre-norm transformer language model that trains, on Python's own help texts.

Text comes from ``pydoc_data.topics``, which every Python carries; characters outside printable
ASCII become spaces, so the vocabulary is the same on every Python.

Run ``python samples/char_transformer.py DIR`` to write ``model.pt`` (weights only: open it with
``--build samples/char_transformer.py:model``) and ``data.safetensors``, or audit the code itself:
``gradaudit samples/char_transformer.py:subject``.
"""

from __future__ import annotations

import string
import sys
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import nn

import gradaudit

ALPHABET = string.ascii_letters + string.digits + string.punctuation + " \n"
CONTEXT, WIDTH, HEADS, LAYERS = 32, 64, 4, 4


class CharTransformer(nn.Module):
    """``int64[batch, time]`` to scores of the next characters, ``[batch, time, vocabulary]``."""

    causal: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(ALPHABET), WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            layer, LAYERS, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False
        )
        self.head = nn.Linear(WIDTH, len(ALPHABET))
        later = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).triu(diagonal=1)
        self.register_buffer("causal", later, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        time = tokens.shape[1]
        x = self.characters(tokens) + self.positions(torch.arange(time, device=tokens.device))
        scores: torch.Tensor = self.head(self.blocks(x, mask=self.causal[:time, :time]))
        return scores


def model(seed: int = 0) -> nn.Module:
    """Four pre-norm layers of width 64, weights N(0, 0.02^2) as GPT-2 starts them."""
    torch.manual_seed(seed)
    net = CharTransformer()
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    return net


def data() -> dict[str, torch.Tensor]:
    """512 windows of 32 characters, int64[512, 32], and the same windows one character later."""
    code = {character: i for i, character in enumerate(ALPHABET)}
    text = "\n".join(topics[name] for name in sorted(topics))
    tokens = torch.tensor([code.get(character, code[" "]) for character in text])
    generator = torch.Generator().manual_seed(1)
    starts = torch.randint(len(tokens) - CONTEXT - 1, (512, 1), generator=generator)
    windows = tokens[starts + torch.arange(CONTEXT + 1)]
    return {"x": windows[:, :-1].contiguous(), "y": windows[:, 1:].contiguous()}


def subject() -> gradaudit.Subject:
    """The sample as gradaudit takes it from code: batches of 32, AdamW at 1e-3."""
    arrays = data()
    return gradaudit.Subject(
        model(),
        sample=list(zip(arrays["x"].split(32), arrays["y"].split(32), strict=True)),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
    )


if __name__ == "__main__":
    from safetensors.torch import save_file

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model().state_dict(), folder / "model.pt")
    save_file(data(), folder / "data.safetensors")
