"""Small nets of the kinds people export: each with an example of its inputs, batch first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH, STEPS, WIDTH = 3, 5, 8


class Recurrent(nn.Module):
    """A recurrent net's mean output, through a dense layer."""

    def __init__(self, kind: Any, layers: int = 1, *, both: bool = False) -> None:
        super().__init__()
        self.body = kind(6, WIDTH, layers, batch_first=True, bidirectional=both)
        self.head = nn.Linear(WIDTH * (2 if both else 1), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0].mean(1))


class Translator(nn.Module):
    """Two GRUs: what the first remembers is where the second begins."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(6, WIDTH, batch_first=True)
        self.decoder = nn.GRU(4, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        state = self.encoder(source)[1]
        return self.head(self.decoder(target, state)[0])


class Residual(nn.Module):
    """Two convolutions with batch norm beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            down = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(down, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.shortcut(x) + self.norms[1](self.second(y)))


def resnet(widths: tuple[int, ...], blocks: int, classes: int) -> nn.Module:
    """A stage of residual blocks for each width, all but the first at half the resolution."""
    stem = (nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    body, before = [], widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            body.append(Residual(before, width, 2 if stage and not block else 1))
            before = width
    return nn.Sequential(
        *stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes)
    )


def encoder(width: int, heads: int, layers: int, *, norm_first: bool = False) -> nn.Module:
    """A transformer encoder with GELU."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class Transformer(nn.Module):
    """An encoder and a decoder that attends to it, which sees its own past alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(WIDTH, 2, 1, 1, 2 * WIDTH, 0.0, "relu", batch_first=True)
        self.body.encoder.enable_nested_tensor = False

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        future = torch.full((target.shape[1],) * 2, -torch.inf, dtype=target.dtype).triu(1)
        return self.body(source, target, tgt_mask=future, tgt_is_causal=False)


class UNet(nn.Module):
    """Down and up again once, with the finer map beside the coarser one."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU())
        self.low = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.out = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down(x)
        coarse = self.low(F.max_pool2d(fine, 2))
        return self.out(torch.cat([fine, self.up(coarse)], 1))


class Experts(nn.Module):
    """Two-layer experts weighed by a softmax over all of them, or over the ``top`` best."""

    def __init__(self, top: int | None = None) -> None:
        super().__init__()
        self.top = top
        self.gate = nn.Linear(6, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 5)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x)
        if self.top is None:
            shares = scores.softmax(-1)
        else:
            best, chosen = scores.topk(self.top, -1)
            shares = torch.zeros_like(scores).scatter(-1, chosen, best.softmax(-1))
        results = torch.stack([expert(x) for expert in self.experts], -1)
        return (results * shares.unsqueeze(-2)).sum(-1)


class Logits(nn.Module):
    """A language model's logits alone, of sequences without padding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        seen = torch.ones_like(tokens)
        return self.model(tokens, attention_mask=seen, use_cache=False).logits


def gpt2(attention: str) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=31,
        n_positions=2 * STEPS,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation=attention,
    )
    return Logits(GPT2LMHeadModel(config))


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 4), nn.ELU(), nn.Linear(4, 2)
    )


def _cnn() -> nn.Module:
    features = (nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    more = (nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.LeakyReLU(0.1), nn.AvgPool2d(2))
    return nn.Sequential(*features, *more, nn.Flatten(), nn.Linear(6, 3))


def _generator() -> nn.Module:
    return nn.Sequential(
        *(nn.ConvTranspose2d(6, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.ConvTranspose2d(3, 2, 4, 2, 1), nn.Tanh()),
    )


Make = Callable[[], nn.Module]
_SERIES = ((STEPS, 6),)
# By name: the net, and the shapes of its inputs without the batch; of integers where it is none.
NETS: dict[str, tuple[Make, tuple[tuple[int, ...], ...]]] = {
    "MLP": (_mlp, ((6,),)),
    "CNN": (_cnn, ((2, 8, 8),)),
    "ResNet": (partial(resnet, (4, 8), 1, 3), ((3, 8, 8),)),
    "RNN": (partial(Recurrent, nn.RNN), _SERIES),
    "LSTM": (partial(Recurrent, nn.LSTM), _SERIES),
    "GRU": (partial(Recurrent, nn.GRU), _SERIES),
    "bidirectional LSTM": (partial(Recurrent, nn.LSTM, 2, both=True), _SERIES),
    "two GRUs": (Translator, ((STEPS, 6), (4, 4))),
    "Transformer": (Transformer, ((STEPS, WIDTH), (4, WIDTH))),
    "encoder": (partial(encoder, WIDTH, 2, 2), ((STEPS, WIDTH),)),
    "GPT-2, eager": (partial(gpt2, "eager"), ()),
    "GPT-2, sdpa": (partial(gpt2, "sdpa"), ()),
    "U-Net": (UNet, ((2, 8, 8),)),
    "generator": (_generator, ((6, 1, 1),)),
    "soft experts": (Experts, _SERIES),
    "top-2 experts": (partial(Experts, 2), _SERIES),
}


def drawn(name: str, batch: int = BATCH, seed: int = 0) -> tuple[Tensor, ...]:
    """Inputs of a net."""
    generator = torch.Generator().manual_seed(seed)
    shapes = NETS[name][1]
    if not shapes:
        return (torch.randint(0, 31, (batch, STEPS), generator=generator),)
    return tuple(torch.randn(batch, *shape, generator=generator) for shape in shapes)
