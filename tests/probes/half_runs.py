"""Real runs in half precision to hold the forecast against: models, and what torch does to them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.probes.precision import measure_precision
from gradaudit.records import HalfRow, Precision, Recipe
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from tests.probes.lossy import Loss, opened

LossFunction = Callable[[Any, Any], Tensor]
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Run:
    """What one real pass left behind."""

    model: nn.Module
    loss: float
    outputs: dict[str, Tensor] = field(default_factory=dict)  # of the leaf modules, with .grad

    @property
    def finite(self) -> bool:
        """Whether loss and gradients are."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return abs(self.loss) < float("inf") and all(bool(g.isfinite().all()) for g in gradients)

    def gradients(self) -> list[Tensor]:
        """Of the parameters and of the leaf modules' outputs."""
        found = [*self.model.parameters(), *self.outputs.values()]
        return [t.grad for t in found if t.grad is not None]


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Floating tensors in that format."""
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


@dataclass
class Case:
    """A model, a batch and a loss, to be run in float32 and in half precision."""

    model: nn.Module
    x: Tensor
    y: Tensor
    loss: LossFunction = F.l1_loss

    def run(self, dtype: torch.dtype, *, pure: bool, scale: float = 1.0) -> Run:
        """One real forward and backward pass of ``scale`` times the loss."""
        model, device = copy.deepcopy(self.model), self.x.device.type
        run = Run(model, 0.0)

        def keep(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> None:
                if isinstance(output, Tensor) and output.requires_grad:
                    output.retain_grad()
                    run.outputs[name] = output

            return hook

        for name, module in model.named_modules():
            if not list(module.children()):
                module.register_forward_hook(keep(name))
        torch.manual_seed(0)
        if pure:
            model.to(dtype)
            loss = self.loss(model(cast(self.x, dtype)), cast(self.y, dtype))
        else:
            with torch.autocast(device, dtype):
                loss = self.loss(model(self.x.clone()), self.y)
        (loss * torch.tensor(scale, device=device)).backward()
        run.loss = float(loss.detach())
        return run

    def forecast(
        self, dtype: torch.dtype, *, pure: bool, recipe: Recipe | None = None
    ) -> tuple[Precision, HalfRow]:
        """What the probe says of it, from float32."""
        model, x, y = self.model, self.x, self.y
        if pure:
            model = copy.deepcopy(model).to(dtype)
            x, y = cast(x, dtype), cast(y, dtype)
        subject = opened(model, [(x, y)], Loss(self.loss), recipe=recipe)
        with borrowed(model, training=True):
            found, _ = measure_precision(subject, Settings(), policy=x.device.type)
        assert found is not None
        name = next(name for name, half in HALVES.items() if half is dtype)
        return found, next(row for row in found.formats if row.format == name)


class Then(nn.Module):
    """An identity layer, and a function behind it."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int = 4) -> None:
        super().__init__()
        self.dense, self.function = nn.Linear(width, width, bias=False), function
        nn.init.eye_(self.dense.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.dense(x))


class Attention(nn.Module):
    """Logits of about ``scale`` squared, written out or in torch's kernel."""

    def __init__(self, scale: float, *, fused: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.query, self.key = (nn.Linear(6, 6, bias=False) for _ in range(2))
        self.fused, self.dropout = fused, dropout
        with torch.no_grad():
            self.query.weight.copy_(torch.eye(6) * scale)
            self.key.weight.copy_(torch.eye(6) * scale)

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.query(x), self.key(x)
        if self.fused:
            return F.scaled_dot_product_attention(q, k, q, dropout_p=self.dropout)
        return (q @ k.transpose(-1, -2)).softmax(-1) @ q


def rms_norm(x: Tensor) -> Tensor:
    return x * x.pow(2).mean(-1, keepdim=True).rsqrt()


def careful_rms_norm(x: Tensor) -> Tensor:
    """As Llama's and T5's code: the square is taken in float32."""
    return x * x.float().pow(2).mean(-1, keepdim=True).rsqrt().to(x.dtype)


def one_weight(value: float) -> Case:
    """An input of that size through a weight of one."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    return Case(model, torch.full((1, 1), value), torch.zeros(1, 1))


def two_halves(value: float) -> Case:
    """Two inputs of half that size, added up by a dense layer."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    return Case(model, torch.full((1, 2), value / 2), torch.zeros(1, 1))


def behind_identity(
    function: Callable[[Tensor], Tensor], value: float, loss: LossFunction = F.l1_loss
) -> Case:
    return Case(Then(function), torch.full((2, 4), value), torch.zeros(2, 4), loss)


def attention(scale: float, *, fused: bool, dropout: float = 0.0) -> Case:
    model = Attention(scale, fused=fused, dropout=dropout)
    return Case(model, torch.randn(2, 5, 6), torch.zeros(2, 5, 6))


def normed(values: float) -> Case:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    return Case(model, torch.randn(8, 6) * values, torch.randn(8, 2), F.mse_loss)


def overflow_cases() -> dict[str, Case]:
    """Some overflow in fp16, some just do not; none does in bf16. No infinite inputs."""
    torch.manual_seed(0)
    masked = torch.eye(2, 4) * -1e9
    return {
        "sum of 65519": two_halves(65519.0),
        "sum of 65520": two_halves(65520.0),
        "field case: 66246": two_halves(66246.0),
        "attention logits": attention(10.0, fused=False),
        "attention logits x 400": attention(200.0, fused=False),
        "fused attention logits x 400": attention(200.0, fused=True),
        "unfused kernel's logits x 400": attention(200.0, fused=True, dropout=1e-9),
        "square": behind_identity(lambda t: t * t, 300.0),
        "square in range": behind_identity(lambda t: t * t, 250.0),
        "square in float32": behind_identity(lambda t: (t.float() * t.float()).sqrt(), 300.0),
        "careful rms norm": behind_identity(careful_rms_norm, 300.0),
        "torch's rms norm": behind_identity(nn.RMSNorm(4, elementwise_affine=False), 300.0),
        "layer norm": behind_identity(nn.LayerNorm(4), 300.0),
        "exp": behind_identity(torch.exp, 12.0),
        "exp in range": behind_identity(torch.exp, 11.0),
        "sum": behind_identity(lambda t: t.sum(-1, keepdim=True).expand(2, 4), 2e4),
        "mean": behind_identity(lambda t: t.mean(-1, keepdim=True).expand(2, 4), 2e4),
        "squared error": behind_identity(lambda t: t, 300.0, F.mse_loss),
        "squared error in range": behind_identity(lambda t: t, 200.0, F.mse_loss),
        "additive mask": behind_identity(lambda t: (t + masked.to(t)).softmax(-1), 2.0),
        "saturated tanh": behind_identity(lambda t: (t * 1e3 * t).tanh(), 20.0),
        "batch norm": normed(100.0),
        "dense classifier": Case(
            nn.Linear(6, 3), torch.randn(8, 6) * 1e3, torch.arange(8) % 3, F.cross_entropy
        ),
        "convolution": Case(nn.Conv2d(1, 2, 3), torch.randn(1, 1, 5, 5), torch.zeros(1, 2, 3, 3)),
        "huge weights": Case(_scaled(nn.Linear(4, 2), 2e5), torch.zeros(3, 4), torch.zeros(3, 2)),
    }


def _scaled(layer: nn.Linear, factor: float) -> nn.Linear:
    with torch.no_grad():
        layer.weight.mul_(factor)
    return layer


def gradient_cases() -> dict[str, Case]:
    """Plain nets of layers with one output each, so that every gradient of theirs is kept."""
    torch.manual_seed(1)
    shallow = nn.Sequential(
        *(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    )
    layers = [layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.Tanh())]
    return {
        "shallow": Case(shallow, torch.randn(64, 32), torch.randn(64, 10)),
        "deep": Case(nn.Sequential(*layers), torch.randn(16, 32), torch.randn(16, 32)),
    }


def scaled_error(factor: float) -> LossFunction:
    """A squared error that is taken in float32 and shrunk."""
    return lambda output, target: F.mse_loss(output.float(), target.float()) * factor
