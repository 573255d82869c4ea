"""Inner products of gradients without keeping the gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 65_521  # numbers a gradient is pressed into; prime, so that no column of a weight lines up
_BLOCK = 8192


class GradientSketches:
    """The gradients a model held, one after another, each as at most ``WIDTH`` numbers.

    Entry i of the gradient is added, with a random sign, to place ``i mod WIDTH`` (count sketch:
    Charikar, Chen and Farach-Colton 2002; signs are windows of one random sequence). The map is
    linear and the same for all gradients, so that everything computed from sketches is what it
    would be in a slightly different metric, in which squared norms differ by :attr:`error`. A
    model of at most ``WIDTH`` parameters keeps its inner products exactly.

    Memory: ``4 WIDTH`` bytes a gradient. Cost: one pass over the gradient.
    """

    def __init__(self, model: nn.Module) -> None:
        self._named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        sizes = [p.numel() * (2 if p.is_complex() else 1) for _, p in self._named]
        self._starts = [sum(sizes[:i]) for i in range(len(sizes))]
        total = sum(sizes)
        self.width = max(1, min(total, WIDTH))
        self.exact = total <= WIDTH
        self._device = self._named[0][1].device if self._named else torch.device("cpu")
        random = torch.Generator().manual_seed(0)
        bits = torch.randint(0, 2, (2 * self.width,), generator=random)
        self._signs = (2.0 * bits - 1.0).to(self._device)
        self._windows = torch.randperm(self.width, generator=random).tolist()
        self.rows: list[Tensor] = []

    @property
    def error(self) -> float:
        """Relative standard error of squared norms: ``sqrt(2 / width)``, zero where exact."""
        return 0.0 if self.exact else (2.0 / self.width) ** 0.5

    def add(self) -> None:
        """Sketch the gradients the model holds now; a parameter without one counts as zero."""
        row = torch.zeros(self.width, device=self._device)
        for start, (_, parameter) in zip(self._starts, self._named, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                self._add_sparse(row, gradient.coalesce(), start)
            else:
                self._add(row, _flat(gradient).to(self._device), start)
        self.rows.append(row)

    def _add(self, row: Tensor, flat: Tensor, start: int) -> None:
        done, size = 0, flat.numel()
        while done < size:
            stretch, place = divmod(start + done, self.width)
            count = min(size - done, self.width - place)
            window = self._windows[stretch % self.width] + place
            signs = self._signs[window : window + count]
            row[place : place + count].addcmul_(flat[done : done + count], signs)
            done += count

    def _add_sparse(self, row: Tensor, gradient: Tensor, start: int) -> None:
        """The slices of a sparse gradient (an embedding's rows), each at its dense place."""
        dense = gradient.shape[gradient.sparse_dim() :].numel()
        numbers = torch.zeros(gradient.indices().shape[1], dtype=torch.int64)
        for size, index in zip(gradient.shape, gradient.indices().cpu(), strict=False):
            numbers = numbers * size + index
        for number, values in zip(numbers.tolist(), gradient.values(), strict=True):
            self._add(row, _flat(values).to(self._device), start + number * dense)

    def gram(self) -> Tensor:
        """``[K, K]`` inner products of the K gradients added, float64 on the CPU."""
        gram = torch.zeros(len(self.rows), len(self.rows), dtype=torch.float64)
        for start in range(0, self.width, _BLOCK):  # float64 copies of all rows would be large
            block = torch.stack([row[start : start + _BLOCK] for row in self.rows]).cpu().double()
            gram += block @ block.T
        return gram


def _flat(gradient: Tensor) -> Tensor:
    flat = torch.view_as_real(gradient) if gradient.is_complex() else gradient
    return flat.detach().reshape(-1).float()
