"""Small pre-norm transformers: sorting a row of digits, repeating a pattern seen before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.records import Recipe
from tests.corpus.case import Case, Task, drawn
from tests.corpus.tune._common import adam, adamw, frozen, rmsprop, sgd

V, LENGTH = 10, 12


def _sorting(generator: torch.Generator) -> Any:
    x = torch.randint(0, V, (16, LENGTH), generator=generator)
    return x, x.sort(1).values


def _pattern(generator: torch.Generator) -> Any:
    """Six random symbols over and over: the second and third time round they can be foretold."""
    x = torch.randint(0, V, (16, 6), generator=generator).repeat(1, 3)
    return x[:, :-1], x[:, 1:]


def _repeats(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy where the pattern has been seen."""
    return F.cross_entropy(output[:, 5:].flatten(0, 1), target[:, 5:].flatten())


SORT = Task("sorting", "cross_entropy", drawn(_sorting))
PATTERN = Task("pattern", _repeats, drawn(_pattern), constant=2.302585)


class Attention(nn.Module):
    """Several heads; ``scale`` multiplies the logits on top of the usual."""

    def __init__(self, width: int, heads: int, causal: bool, scale: float) -> None:
        super().__init__()
        self.heads, self.causal, self.scale = heads, causal, scale
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(q * self.scale, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """Attention and a small net, each on what a LayerNorm leaves of the sum."""

    def __init__(self, width: int, heads: int, causal: bool, scale: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal, scale)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Tokens and places, blocks, a last LayerNorm and a head."""

    def __init__(
        self, layers: int, *, width: int = 32, causal: bool = False, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(V, width), nn.Embedding(20, width)
        for embedding in (self.token, self.place):
            nn.init.normal_(embedding.weight, std=0.3)
        self.blocks = nn.Sequential(*(Block(width, 4, causal, scale) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, V)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def causal(layers: int, **more: Any) -> Transformer:
    return Transformer(layers, causal=True, **more)


def gpt(layers: int, std: float, **more: Any) -> Transformer:
    """Every matrix with one size, as GPT-2 has it with 0.02."""
    model = Transformer(layers, **more)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
    return model


def zero_residuals(layers: int) -> Transformer:
    model = Transformer(layers)
    for block in model.blocks:
        nn.init.zeros_(block.attention.out.weight)
        nn.init.zeros_(block.mlp[2].weight)
    return model


def zero_head(layers: int) -> Transformer:
    model = Transformer(layers)
    nn.init.zeros_(model.head.weight)
    return model


def large_embedding(size: float, **more: Any) -> Transformer:
    """Embeddings beside which the blocks' outputs are nothing."""
    model = Transformer(2, **more)
    nn.init.normal_(model.token.weight, std=size)
    nn.init.normal_(model.place.weight, std=size)
    return model


def head_only() -> nn.Module:
    model = causal(2)
    return frozen(model, model.head)


def no_places() -> nn.Module:
    """Frozen random embeddings under trained blocks."""
    model = Transformer(2)
    return frozen(model, model.blocks, model.norm, model.head)


def case(
    name: str,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    fault: str = "",
    *,
    task: Task = SORT,
    **more: Any,
) -> Case:
    return Case(f"prenorm/{name}", task, build, recipe, fault, **more)


def cases() -> list[Case]:
    sharp = ("init-large", "saturation")
    return [
        case("sort-2-adam", lambda: Transformer(2), adam(3e-3, steps=500)),
        case("sort-4-adamw", lambda: Transformer(4), adamw(2e-3, steps=300, warmup=50), shown=4),
        case("sort-8-clip", lambda: Transformer(8), adam(1e-3, clip_norm=1.0, steps=200)),
        case("sort-2-sgd", lambda: Transformer(2), sgd(0.1, momentum=0.9, steps=500)),
        case(
            "sort-4-gpt", lambda: gpt(4, 0.02), adamw(2e-3, steps=300, weight_decay=0.1), shown=16
        ),
        case(
            "sort-2-large-matrices",
            lambda: gpt(2, 3.0),
            adam(1e-3),
            "init-large",
            also=("attention-scale", "saturation"),
        ),
        case("sort-zero-residuals", lambda: zero_residuals(4), adam(2e-3, steps=400)),
        case("sort-zero-head", lambda: zero_head(3), adam(2e-3, steps=400), shown=2),
        case(
            "pattern-logits-300-sgd",
            lambda: causal(2, scale=300.0),
            sgd(0.1),
            "attention-scale",
            task=PATTERN,
            also=sharp,
        ),
        case("sort-2-sgd-low", lambda: Transformer(2), sgd(1e-3), "rate-low"),
        case(
            "sort-4-adam-0.1",
            lambda: Transformer(4),
            adam(0.1),
            "rate-high",
            also=("warmup-missing",),
        ),
        case("sort-4-adam-1", lambda: Transformer(4), adam(1.0, steps=300), "rate-high"),
        case("sort-4-sgd-30", lambda: Transformer(4), sgd(30.0, steps=300), "rate-high"),
        case(
            "sort-6-warm-late",
            lambda: Transformer(6),
            adam(0.3, warmup=250, steps=350),
            "rate-high",
        ),
        case("sort-rmsprop", lambda: Transformer(2), rmsprop(1e-3, steps=500)),
        case("sort-clip", lambda: Transformer(2), sgd(0.1, clip_norm=1e-2), "clip-tight"),
        case("sort-decay", lambda: Transformer(2), adamw(3e-3, weight_decay=50.0), "weight-decay"),
        case("pattern-head-only", head_only, adam(1e-2), "frozen", task=PATTERN, shown=1),
        case("sort-frozen-embeddings", no_places, adam(3e-3, steps=500)),
        case(
            "pattern-large-embedding",
            lambda: large_embedding(3000.0, causal=True),
            adam(1e-3),
            "embedding-scale",
            task=PATTERN,
        ),
        case("pattern-2-adam", lambda: causal(2), adam(3e-3, steps=500), task=PATTERN),
        case(
            "pattern-3-warm",
            lambda: causal(3),
            adam(3e-3, steps=400, warmup=100),
            task=PATTERN,
            shown=16,
        ),
        case(
            "pattern-2-logits-30",
            lambda: causal(2, scale=30.0),
            adam(1e-3, steps=600),
            "attention-scale",
            task=PATTERN,
            also=sharp,
        ),
        case("pattern-2-sgd", lambda: causal(2), sgd(5e-3, steps=400), "rate-low", task=PATTERN),
        case(
            "pattern-2-momentum", lambda: causal(2), sgd(0.1, momentum=0.9, steps=600), task=PATTERN
        ),
        case(
            "pattern-3-logits-300",
            lambda: causal(3, scale=300.0),
            adam(1e-3),
            "attention-scale",
            task=PATTERN,
            also=sharp,
        ),
        case("pattern-2-adam-0.1", lambda: causal(2), adam(0.1), "rate-high", task=PATTERN),
    ]
