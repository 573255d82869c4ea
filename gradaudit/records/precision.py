"""What half precision would do to this run, forecast from float32."""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.records.estimate import Estimate


@dataclass(frozen=True)
class HalfRow:
    """One format, ``fp16`` or ``bf16``."""

    format: str
    largest_activation: float | None  # |x| over all operations of the forward pass
    largest_activation_at: str  # module that produced it
    overflows_in: tuple[str, ...]  # modules whose output would be infinite
    largest_gradient: float | None  # |g| over activation and weight gradients, unscaled
    underflow: Estimate | None  # share of nonzero gradient entries that round to zero, unscaled
    underflow_scaled: Estimate | None  # the same at the loss scale
    lost_updates: Estimate | None  # share of weights whose update rounds away, no fp32 master copy
    eps_flushed: bool | None  # the recipe's Adam eps is zero in this format
    largest_activation_op: str = ""  # operation that produced it; "cast" for what one is fed
    overflow_spreads: bool | None = None  # it would change the loss or its gradients
    underflow_at: str = ""  # module that loses most entries, unscaled


@dataclass(frozen=True)
class Precision:
    """The forecast for both formats, and the loss scale that keeps fp16 in range."""

    asked: str | None  # the recipe's precision
    loss_scale: float | None  # 2^floor(log2(65504 / (16 max|g|)))
    formats: tuple[HalfRow, ...]
    regime: str = "autocast"  # what is forecast: "autocast" (weights in float32) | "pure"
    weights: str = "float32"  # the weights' own format
    eps: float | None = None  # smallest of the optimizer's groups, where it has one

    @property
    def judged(self) -> str:
        """The half format that is trained in: the recipe's, else that of the weights; or none."""
        if self.regime == "pure":
            return {"float16": "fp16", "bfloat16": "bf16"}[self.weights]
        return self.asked if self.asked in ("fp16", "bf16") else ""
