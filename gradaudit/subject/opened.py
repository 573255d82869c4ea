"""A subject once it is open: what every probe is handed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn

from gradaudit.records import NotMeasured, Recipe, SampleRow, SubjectRow
from gradaudit.subject.source_files import SourceLine

OptimizerFactory = Callable[[Iterable[Any]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Subject:
    """A model with all that is needed to train it, as user code hands it in.

    ``sample`` is one batch or an iterable of batches; ``loss`` a name or ``(output, target) ->
    scalar``; ``optimizer`` an instance of ``torch.optim.Optimizer`` over the model's parameters, or
    a callable from parameters to one.
    """

    model: nn.Module
    sample: Any = None
    loss: str | Callable[[Any, Any], torch.Tensor] | None = None
    optimizer: torch.optim.Optimizer | OptimizerFactory | None = None


def _cloned(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, Mapping):
        return {key: _cloned(item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_cloned(item) for item in value)
    return value


@dataclass(frozen=True)
class Batch:
    """One batch: the model's inputs, positional or by keyword, and the target if there is one."""

    inputs: tuple[Any, ...] | Mapping[str, Any]
    target: Any = None
    whole: bool = False  # the model takes no part of it: it was exported for this size

    def fresh(self) -> Batch:
        """The batch with its input tensors cloned."""
        return replace(self, inputs=_cloned(self.inputs))

    def run(self, model: nn.Module) -> Any:
        """Call ``model`` on clones of the inputs, which it may change in place."""
        return self.fresh().call(model)

    def call(self, model: nn.Module) -> Any:
        """``model(*inputs)`` or ``model(**inputs)`` on these very tensors."""
        if isinstance(self.inputs, Mapping):
            return model(**self.inputs)
        return model(*self.inputs)

    def named_inputs(self) -> list[tuple[str, Any]]:
        """Inputs with the names messages use: ``input``, ``input 1``, ``input 'mask'``."""
        if isinstance(self.inputs, Mapping):
            return [(f"input {name!r}", value) for name, value in self.inputs.items()]
        return [(f"input {i}" if i else "input", value) for i, value in enumerate(self.inputs)]


class Objective(Protocol):
    """The loss: a scalar from a model's output and a batch, and what is known about it."""

    @property
    def kind(self) -> str:
        """``cross_entropy``, ``mse``, ..., ``model's own loss``, ``custom (name)``."""
        ...

    @property
    def why(self) -> str:
        """How it was chosen, one sentence."""
        ...

    def __call__(self, output: Any, batch: Batch) -> torch.Tensor:
        """Scalar loss, differentiable."""
        ...

    def constant(self, batches: tuple[Batch, ...]) -> float | None:
        """Loss of the best constant prediction on these targets; ``None`` where unknown."""
        ...

    def least(self, batches: tuple[Batch, ...]) -> float | None:
        """Loss of a perfect prediction of these targets; ``None`` where unknown."""
        ...

    def chance(self, output: Any, batch: Batch) -> tuple[float, int] | None:
        """Loss of the uniform guess and the number of classes, for classification.

        To be asked after the loss itself was taken: it raises where that does.
        """
        ...


@dataclass(frozen=True)
class Opened:
    """What the trip measures: a borrowed model, or only its weights."""

    model: nn.Module | None  # None: weights only
    weights: Mapping[str, torch.Tensor]  # name -> tensor; filled when model is None
    batches: tuple[Batch, ...]
    objective: Objective | None
    recipe: Recipe
    make_optimizer: OptimizerFactory | None  # the user's own, for the rehearsal
    row: SubjectRow
    sample: SampleRow
    notes: tuple[str, ...] = ()
    not_measured: tuple[NotMeasured, ...] = field(default=())
    lines: Mapping[str, SourceLine] = field(default_factory=dict)  # of modules, by their names
    trained: str = ""  # what the file says of its weights' training; empty where nothing
