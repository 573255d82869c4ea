"""One attempt at training: what its steps showed, and who broke it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from gradaudit.probes._curve import Curve
from gradaudit.probes._hooks import take_loss
from gradaudit.probes._training import take_step
from gradaudit.probes.nonfinite import find_producer, nonfinite_weights
from gradaudit.probes.trace import l2_norm
from gradaudit.records import NonFinite, NotMeasured
from gradaudit.subject.opened import Batch, Objective, Opened
from gradaudit.subject.process_state import save_process_state

BLOW_UP = 1e3  # times the size of the initial loss: no catapult goes there and comes back
HIGH, LONG = 30.0, 5  # so many times the initial loss for so many steps is no catapult either


@dataclass
class Run:
    """One attempt, as it goes."""

    opened: Opened
    model: nn.Module
    optimizer: torch.optim.Optimizer
    name: str
    brief: bool  # only judges a rate: no producer of non-finite numbers is looked for
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    from_zero: set[str] = field(default_factory=set)  # weights that are zero at a watched step
    predicted: list[float] = field(default_factory=list)  # first-order falls, by full-rate step
    first_nonfinite: NonFinite | None = None
    first_order: float | None = None  # of the step just taken, where it was watched
    again: list[float] = field(default_factory=list)  # the first loss, taken again later
    broke: bool = False
    missing: list[NotMeasured] = field(default_factory=list)
    _done: float = 0.0
    _first_random: list[Tensor] | None = None  # random states before the first step, if they matter

    @property
    def curve(self) -> Curve:
        """The losses so far."""
        return Curve(self.losses, self.batches, self.progress)

    def step(self, number: int, batch: Batch, share: float) -> None:
        """One step on batch ``number`` at ``share`` of the full rate."""
        objective = self.opened.objective
        assert objective is not None
        start_again = save_process_state()
        random = _random_states(self.model) if not self.losses else None
        clip = self.opened.recipe.clip_norm
        step = take_step(self.model, objective, batch, self.optimizer, clip_norm=clip)
        if not step.sound:
            self.broke = True
            if not self.brief:
                start_again()
                self._name_producer(objective, batch)
            return
        if random is not None and _differ(random, _random_states(self.model)):
            self._first_random = random
        self._keep(step.loss, number)
        self.norms.append(step.gradient_norm)
        self._done += share
        if self.first_order is not None and math.isfinite(self.first_order):
            clipped = max(step.gradient_norm / clip, 1.0) if clip else 1.0
            self.predicted.append(self.first_order * clipped)
        self.first_order = None
        self.broke = self._blown_up()

    def look(self, number: int, batch: Batch) -> None:
        """The loss where the steps have led, without taking another.

        Of a model that draws random numbers it is the first batch's with those it drew first.
        """
        if self._first_random is not None:
            self.take_first_again()
            return
        objective = self.opened.objective
        assert objective is not None
        with torch.no_grad():
            loss = float(take_loss(self.model, objective, batch)[1])
        self.broke = not math.isfinite(loss)
        if not self.broke:
            self._keep(loss, number)
            self.broke = self._blown_up()

    def _keep(self, loss: float, number: int) -> None:
        self.losses.append(loss)
        self.batches.append(number)
        self.progress.append(self._done)
        self.rates.append(max(float(group["lr"]) for group in self.optimizer.param_groups))

    def take_first_again(self) -> None:
        """The first batch's loss once more, with the random numbers it had the first time.

        Without dropout's noise between them the same batch's losses can be compared. The stream of
        random numbers goes on as if nothing had been. Models that draw none are not asked.
        """
        objective = self.opened.objective
        if self._first_random is None or objective is None:
            return
        go_on = save_process_state()
        torch.set_rng_state(self._first_random[0])
        for device, state in zip(_cuda(self.model), self._first_random[1:], strict=True):
            torch.cuda.set_rng_state(state, device)
        with torch.no_grad():
            _, loss = take_loss(self.model, objective, self.opened.batches[0])
        go_on()
        self.again.append(float(loss))

    @property
    def falls(self) -> bool:
        """Whether the loss fell: see :attr:`Curve.falls`, or each time the first was taken again.

        Four losses in falling order are one in 24 by chance.
        """
        if not self.again:
            return self.curve.falls
        order = [self.losses[0], *self.again]
        each = len(order) > 3 and all(b < a for a, b in pairwise(order))
        return each or (self.curve.falls and order[-1] < order[0])

    def _blown_up(self) -> bool:
        sizes, scale = [abs(loss) for loss in self.losses], self.curve.scale
        lasting = len(sizes) > LONG and min(sizes[-LONG:]) > HIGH * scale
        return lasting or sizes[-1] > BLOW_UP * scale

    def _name_producer(self, objective: Objective, batch: Batch) -> None:
        step = len(self.losses)
        spoilt = nonfinite_weights(self.model)
        if spoilt:
            self.first_nonfinite = replace(spoilt[0], step=step)
            return
        what, where = "producer of the non-finite numbers", f"rehearsal step {step}"
        try:
            self.first_nonfinite = find_producer(self.model, objective, batch, step=step)
        except Exception as error:  # code that runs alone but not under a dispatch mode
            why = f"watching every operation raised {type(error).__name__}: {error}"
            self.missing.append(NotMeasured(what, where, why))
            return
        if self.first_nonfinite is None:
            why = "it was in the batch already, or did not come back"
            self.missing.append(NotMeasured(what, where, why))


def _cuda(model: nn.Module) -> list[torch.device]:
    return sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)


def _random_states(model: nn.Module) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in _cuda(model))]


def _differ(before: list[Tensor], after: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@contextmanager
def updates_watched(run: Run, share: float) -> Iterator[None]:
    """Note ||step|| / ||weight|| of each parameter at the next step, and the fall it should bring.

    Both are scaled to the full rate. A weight that starts at zero has no ratio, also later: its
    size is only what the steps have made of it, and says nothing about the rate. To first order a
    step takes ``-g . step`` off the loss, g the gradient before clipping: free of the noise that
    hides a small fall in the losses themselves. The copy of the weights lives only during the
    optimizer's step, when the activations are gone.
    """
    before: dict[str, Tensor] = {}
    named = [(n, p) for n, p in run.model.named_parameters() if p.requires_grad]

    def copy(*_: object) -> None:
        before.update((name, p.detach().clone()) for name, p in named)

    def compare(*_: object) -> None:
        fall = 0.0
        for name, parameter in named:
            old = before.pop(name)
            size = float(l2_norm(old))
            down = old.sub_(parameter.detach())
            ratio = float(l2_norm(down)) / size / share if size > 0 else math.nan
            if size == 0:
                run.from_zero.add(name)
                run.ratios.pop(name, None)
            elif math.isfinite(ratio) and math.isfinite(size) and name not in run.from_zero:
                run.ratios.setdefault(name, []).append(ratio)
            if parameter.grad is not None and not parameter.grad.is_sparse:
                fall += float(torch.sum(down * parameter.grad, dtype=torch.float64))
        run.first_order = fall / share

    handles = [
        run.optimizer.register_step_pre_hook(copy),
        run.optimizer.register_step_post_hook(compare),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
