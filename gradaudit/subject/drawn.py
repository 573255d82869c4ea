"""Random tensors to run a model on where no data is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gradaudit.subject.opened import Batch

LARGEST = 1 << 28  # elements of one made-up tensor


@dataclass(frozen=True)
class Drawn:
    """One tensor to draw: standard normal, or whole numbers from ``least`` below ``limit``.

    One with a name is a keyword of the model's; ``same_as`` names one that it is a copy of.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    limit: int | None = None
    least: int = 0
    name: str = ""
    same_as: str = ""

    def __str__(self) -> str:
        if self.same_as:
            return f"{self.name} = {self.same_as}"
        kind = str(self.dtype).removeprefix("torch.")
        below = "" if self.limit is None else f"<{self.limit}"
        name = f"{self.name} " if self.name else ""
        return f"{name}{kind}[{','.join(map(str, self.shape))}]{below}"

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """The tensor, on the CPU."""
        if self.limit is None and (self.dtype.is_floating_point or self.dtype.is_complex):
            base = torch.complex64 if self.dtype.is_complex else torch.float32
            return torch.randn(self.shape, generator=generator, dtype=base).to(self.dtype)
        limit = 2 if self.limit is None else self.limit
        return torch.randint(self.least, limit, self.shape, generator=generator).to(self.dtype)


def draw_batches(
    wanted: tuple[Drawn, ...], count: int, *, seed: int, device: torch.device
) -> tuple[Batch, ...]:
    """``count`` batches of these tensors, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(_batch(wanted, generator, device) for _ in range(count))


def _batch(wanted: tuple[Drawn, ...], generator: torch.Generator, device: torch.device) -> Batch:
    if not all(item.name for item in wanted):
        return Batch(tuple(item.draw(generator).to(device) for item in wanted))
    inputs: dict[str, torch.Tensor] = {}
    for item in wanted:
        drawn = None if item.same_as else item.draw(generator).to(device)
        inputs[item.name] = inputs[item.same_as].clone() if drawn is None else drawn
    return Batch(inputs)
