"""Lyapunov exponents of a loop written by hand, from the state its cells hand on.

What a cell returns is cut out of the graph and handed on as a leaf, so that one step's Jacobian can
be pulled back alone. The chain is known by its transposes and carried from the last step to the
first; cells that feed each other make one state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.linalg.lyapunov import aligned, burn_in, random_frame, stretches
from gradaudit.probes.cell_outputs import UnknownContainer, replaced
from gradaudit.probes.lyapunov import SEQUENCES, TOO_COSTLY, Span, Told, told
from gradaudit.probes.time_loops import run_watched
from gradaudit.subject.opened import Batch

# A step back costs `count` vector-Jacobian products: over the whole loop, backward passes.
SPANS = {"quick": Span(0, 0), "standard": Span(2, 128), "thorough": Span(8, 1024)}


class _NoState(Exception):
    """Why a loop has no state to follow."""


@dataclass(frozen=True)
class _Step:
    """One call of one cell: what it returned, and the leaves it was cut into."""

    name: str
    returned: tuple[Tensor, ...]
    leaves: tuple[Tensor, ...]


class _Cutter:
    """Cuts what each call returned into leaves."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []

    def see(self, name: str, _module: nn.Module, _given: tuple[Any, ...], output: Any) -> Any:
        """Keep what was returned, hand on the leaves."""
        returned: list[Tensor] = []
        leaves: list[Tensor] = []

        def cut(tensor: Tensor) -> Tensor:
            leaf = tensor.detach().requires_grad_()
            returned.append(tensor)
            leaves.append(leaf)
            return leaf.clone()  # not a leaf: it may be changed in place

        try:
            handed = replaced(output, cut)
        except UnknownContainer as kind:
            raise _NoState(f"its cell returns a {kind}, whose tensors cannot be followed") from None
        if returned:
            self.steps.append(_Step(name, tuple(returned), tuple(leaves)))
        return handed


def loop_exponents(
    model: nn.Module,
    batch: Batch,
    reached: Mapping[str, tuple[int, ...]],
    effort: str,
    generator: torch.Generator,
) -> dict[str, Told]:
    """Exponents of the cells called in loops, by name, or why there are none.

    ``reached`` holds the calls of each cell that make up its loop. Cells that depend on each
    other's earlier output share the exponents of their joint state. Up to eight sequences of the
    batch. Cost: a forward pass, then ``count`` backward passes.
    """
    span = SPANS[effort]
    if not span.count:
        return dict.fromkeys(reached, ((), TOO_COSTLY))
    try:
        steps = _kept(run_watched(model, batch, reached, _Cutter)[0].steps, reached)
        groups = _groups(steps, list(reached))
    except _NoState as reason:
        return dict.fromkeys(reached, ((), str(reason)))
    found: dict[str, Told] = {}
    for group in groups:
        try:
            periods = _periods([step for step in steps if step.name in group], group)
            answer = _follow(periods, span, generator)
        except _NoState as reason:
            answer = (), str(reason)
        found.update(dict.fromkeys(group, answer))
    return found


def _kept(steps: list[_Step], reached: Mapping[str, tuple[int, ...]]) -> list[_Step]:
    """The calls that belong to the loops, in the order they were made."""
    counts: Counter[str] = Counter()
    kept = []
    for step in steps:
        if counts[step.name] in reached[step.name]:
            kept.append(step)
        counts[step.name] += 1
    return kept


def _depends(on: tuple[Tensor, ...], returned: tuple[Tensor, ...]) -> bool:
    ones = [torch.ones_like(tensor) for tensor in returned]
    gradients = torch.autograd.grad(returned, on, ones, retain_graph=True, allow_unused=True)
    return any(gradient is not None for gradient in gradients)


def _groups(steps: list[_Step], names: list[str]) -> list[list[str]]:
    """Cells that feed back to each other, together; looked at in the middle of the loop."""
    reaches: dict[str, set[str]] = {}
    for name in names:
        own = [i for i, step in enumerate(steps) if step.name == name]
        middle = own[len(own) // 2]
        latest = {step.name: step.leaves for step in steps[:middle]}
        step = steps[middle]
        reaches[name] = {n for n, leaves in latest.items() if _depends(leaves, step.returned)}
        if _depends(steps[own[len(own) // 2 - 2]].leaves, step.returned):
            raise _NoState("its state is more than what its cell returns")
    for _ in names:  # the transitive closure
        for near in reaches.values():
            near.update(*(reaches[name] for name in tuple(near)))
    if any(name not in reaches[name] for name in names):
        raise _NoState("its cell keeps its state to itself instead of returning it")
    groups: list[list[str]] = []
    for name in names:
        group = next((g for g in groups if g[0] in reaches[name] and name in reaches[g[0]]), None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return groups


def _periods(steps: list[_Step], group: list[str]) -> list[list[_Step]]:
    """The calls of one pass through the loop, each; every cell of the group once."""
    size = len(group)
    periods = [steps[i : i + size] for i in range(0, len(steps), size)]
    order = [step.name for step in periods[0]]
    if len(set(order)) < size or any([s.name for s in period] != order for period in periods):
        raise _NoState("its cells are not called in the same order at every step")
    return periods


def _follow(periods: list[list[_Step]], span: Span, generator: torch.Generator) -> Told:
    """Carry a frame back through the last ``span.steps`` passes of the loop."""
    before = max(0, len(periods) - span.steps - 1)
    periods = periods[before:]
    shapes = [[t.shape for s in period for t in s.leaves] for period in periods]
    if any(shape != shapes[-1] for shape in shapes):
        raise _NoState("its state changes shape from step to step")
    layout = _layout(periods, generator)
    frame = random_frame(layout.count, layout.size, span.count, generator)
    steps = len(periods) - 1

    def pull(t: int, q: Tensor) -> Tensor:
        return layout.pull(periods[-1 - t], periods[-2 - t], q)

    # Half of the burn-in lets the frame turn, half lets the trajectory settle: opposite ends here.
    edge = burn_in(steps) // 2
    logs = stretches(pull, steps, aligned(pull, edge, frame, edge))
    return told(logs[edge : steps - edge], span.count, before + edge)


@dataclass(frozen=True)
class _Layout:
    """How the state's tensors become ``[sequences, size]``; ``places`` is each one's batch axis."""

    places: tuple[int | None, ...]
    count: int
    shapes: tuple[torch.Size, ...]
    like: Tensor

    @property
    def size(self) -> int:
        """Entries of one sequence's state."""
        total = sum(shape.numel() for shape in self.shapes)
        return total // self._sequences

    @property
    def _sequences(self) -> int:
        return 1 if self.places[0] is None else self.shapes[0][self.places[0]]

    def pull(self, later: list[_Step], earlier: list[_Step], frame: Tensor) -> Tensor:
        """``J^T Q`` of one pass through the loop for ``[count, size, k]``."""
        columns = [self._pull_one(later, earlier, column) for column in frame.unbind(dim=2)]
        return torch.stack(columns, dim=2)

    def _pull_one(self, later: list[_Step], earlier: list[_Step], column: Tensor) -> Tensor:
        pending = dict(enumerate(self._spread(column)))
        leaves = [leaf for step in (*later, *earlier) for leaf in step.leaves]
        half = len(leaves) // 2
        at = half
        for step in reversed(later):
            at -= len(step.leaves)
            cotangents = [pending.pop(at + i) for i in range(len(step.leaves))]
            # what it was given: cells before it in this pass, and the pass before
            sources = [*range(at), *range(half, 2 * half)]
            gradients = torch.autograd.grad(
                step.returned, [leaves[i] for i in sources], cotangents,
                retain_graph=True, allow_unused=True,
            )  # fmt: skip
            for i, gradient in zip(sources, gradients, strict=True):
                if gradient is not None:
                    pending[i] = pending[i] + gradient if i in pending else gradient
        return self._gathered([pending.get(half + i) for i in range(half)])

    def _spread(self, column: Tensor) -> Iterator[Tensor]:
        start = 0
        for shape, place in zip(self.shapes, self.places, strict=True):
            width = shape.numel() // self._sequences
            part = column.new_zeros(self._sequences, width)
            part[: self.count] = column[:, start : start + width]
            start += width
            if place is None:
                yield part.view(shape).to(self.like)
            else:
                rest = [n for i, n in enumerate(shape) if i != place]
                yield part.view(-1, *rest).movedim(0, place).to(self.like)

    def _gathered(self, gradients: list[Tensor | None]) -> Tensor:
        parts = []
        for gradient, shape, place in zip(gradients, self.shapes, self.places, strict=True):
            tensor = torch.zeros(shape) if gradient is None else gradient
            front = tensor[None] if place is None else tensor.movedim(place, 0)
            parts.append(front.reshape(self._sequences, -1)[: self.count].double().cpu())
        return torch.cat(parts, dim=1)


def _layout(periods: list[list[_Step]], generator: torch.Generator) -> _Layout:
    """The batch axis: one along which no sequence's step depends on another's, tried on a step."""
    leaves = [leaf for step in periods[-1] for leaf in step.leaves]
    shapes = tuple(leaf.shape for leaf in leaves)
    axes = set(shapes[0][:-1])
    for count in sorted(axes, key=lambda size: (size == 1, shapes[0].index(size))):
        places = [shape.index(count) if count in shape[:-1] else None for shape in shapes]
        if None in places:
            continue
        whole = _Layout(tuple(places), count, shapes, leaves[0])
        if count == 1 or _apart(whole, periods, generator):
            return _Layout(tuple(places), min(count, SEQUENCES), shapes, leaves[0])
    if not axes:
        return _Layout((None,) * len(shapes), 1, shapes, leaves[0])
    raise _NoState("the sequences of its batch depend on each other, or cannot be told apart")


def _apart(layout: _Layout, periods: list[list[_Step]], generator: torch.Generator) -> bool:
    frame = random_frame(layout.count, layout.size, 1, generator)
    frame[1:] = 0
    middle = len(periods) // 2
    pulled = layout.pull(periods[middle], periods[middle - 1], frame)
    return bool((pulled[1:] == 0).all())
