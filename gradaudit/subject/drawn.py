"""Random tensors to run a model on where no data is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gradaudit.subject.opened import Batch

LARGEST = 1 << 28  # elements of one made-up tensor


@dataclass(frozen=True)
class Drawn:
    """One tensor to draw: standard normal, or whole numbers from ``least`` below ``limit``."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    limit: int | None = None
    least: int = 0

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        below = "" if self.limit is None else f"<{self.limit}"
        return f"{kind}[{','.join(map(str, self.shape))}]{below}"

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """The tensor, on the CPU."""
        if self.dtype.is_floating_point or self.dtype.is_complex:
            base = torch.complex64 if self.dtype.is_complex else torch.float32
            return torch.randn(self.shape, generator=generator, dtype=base).to(self.dtype)
        limit = 2 if self.limit is None else self.limit
        return torch.randint(self.least, limit, self.shape, generator=generator).to(self.dtype)


def draw_batches(
    wanted: tuple[Drawn, ...], count: int, *, seed: int, device: torch.device
) -> tuple[Batch, ...]:
    """``count`` batches of these tensors, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        Batch(tuple(item.draw(generator).to(device) for item in wanted)) for _ in range(count)
    )
