"""How the user means to train: what is given is judged, what is missing is prescribed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The training recipe as given; ``None`` where nothing was said."""

    optimizer: str | None = None  # "sgd" | "adam" | "adamw" | "rmsprop" | a class name
    lr: float | None = None
    momentum: float | None = None
    betas: tuple[float, float] | None = None
    eps: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    warmup: int | None = None
    steps: int = 1000
    precision: str | None = None  # "fp32" | "fp16" | "bf16"
    schedule: str | None = None  # "constant" | "linear" | "cosine", to zero at the last step
