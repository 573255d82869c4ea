"""What the probes of the real loss share: the running module call, and one loss, safely taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.errors import GradauditError, ModelError
from gradaudit.probes.trace import tensors_in
from gradaudit.subject.opened import Batch, Objective


@dataclass(eq=False)
class ModuleCall:
    """One call of one module; ``index`` counts the module's calls within one forward pass.

    ``first <= n < last`` bounds the autograd sequence numbers of the nodes made inside.
    """

    module: nn.Module
    name: str
    index: int
    recomputed: bool
    first: int
    last: int = -1


Listener = Callable[[ModuleCall, Any], None]


class CallStack:
    """Context manager that knows, at every moment, which call of which module is running.

    ``on_enter(call, inputs)`` and ``on_exit(call, output)`` are told of each call; ``output`` is
    ``None`` where the call raised. A module that gradient checkpointing runs again while the
    backward pass is on, which is after :meth:`forward_ended`, makes a *recomputed* call that has
    no number of its own (``index`` -1). TorchScript modules take no hooks and are passed over.
    """

    def __init__(
        self, model: nn.Module, on_enter: Listener | None = None, on_exit: Listener | None = None
    ) -> None:
        self._model, self._on_enter, self._on_exit = model, on_enter, on_exit
        self._handles: list[Any] = []
        self._stack: list[ModuleCall] = []
        self._counts: dict[str, int] = {}
        self._recomputing = False
        self.calls: list[ModuleCall] = []

    @property
    def current(self) -> ModuleCall | None:
        """The innermost call that is running; ``None`` outside the model."""
        return self._stack[-1] if self._stack else None

    def forward_begins(self) -> None:
        """Start counting calls anew, for one more forward pass."""
        self._counts.clear()
        self.calls.clear()
        self._recomputing = False

    def forward_ended(self) -> None:
        """From here on a call is a recomputation."""
        self._recomputing = True

    def owner(self, sequence_number: int) -> ModuleCall | None:
        """The innermost call during which the autograd node of this number was made."""
        around = [c for c in self.calls if c.first <= sequence_number < c.last]
        return max(around, key=lambda c: (c.first, -c.last)) if around else None

    def __enter__(self) -> CallStack:
        for name, module in self._model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            # Ours first and ours last, so that a user's hook that raises cannot unbalance them.
            before = module.register_forward_pre_hook(
                self._enter(name), prepend=True, with_kwargs=True
            )
            self._handles += [before, module.register_forward_hook(self._leave, always_call=True)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stack.clear()

    def _enter(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            index = -1
            if not self._recomputing:
                index = self._counts.get(name, 0)
                self._counts[name] = index + 1
            call = ModuleCall(module, name, index, self._recomputing, _next_sequence_number())
            self._stack.append(call)
            self.calls.append(call)
            if self._on_enter is not None:
                self._on_enter(call, (args, kwargs))

        return hook

    def _leave(self, _module: nn.Module, _args: Any, output: Any) -> None:
        if not self._stack:
            return
        call = self._stack.pop()
        call.last = _next_sequence_number()
        if self._on_exit is not None:
            self._on_exit(call, output)


def _next_sequence_number() -> int:
    """The number that the next autograd node made on this thread will carry."""
    return int(torch._C._autograd._get_sequence_nr())


def first_floating(value: Any) -> Tensor | None:
    """The first floating tensor in a module's inputs or output; ``None`` where there is none."""
    return next((t for t in tensors_in(value) if t.is_floating_point()), None)


def all_finite(tensors: Iterator[Tensor] | list[Tensor]) -> bool:
    """Whether no entry of any of the tensors is NaN or infinite."""
    # A sum is finite only if all its terms are, and costs a thirtieth of ``isfinite``; only a sum
    # that is not may have overflowed by itself.
    return all(bool(t.sum().isfinite()) or bool(t.isfinite().all()) for t in map(_dense, tensors))


def _dense(tensor: Tensor) -> Tensor:
    flat = tensor.detach()
    return flat.coalesce().values() if flat.is_sparse else flat


def take_loss(model: nn.Module, objective: Objective, batch: Batch) -> tuple[Any, Tensor]:
    """The model's output and the scalar loss on ``batch``.

    Raises :class:`ModelError` where the user's forward pass or loss raises, or where the loss is
    not one floating number.
    """
    try:
        output = batch.run(model)
    except GradauditError:
        raise
    except Exception as error:
        raise ModelError(f"the forward pass raised {_said(error)}") from error
    return output, take_objective(objective, output, batch)


def take_objective(objective: Objective, output: Any, batch: Batch) -> Tensor:
    """The scalar loss of an output; raises :class:`ModelError` as :func:`take_loss` does."""
    try:
        loss = objective(output, batch)
    except GradauditError:
        raise
    except Exception as error:
        raise ModelError(f"the loss raised {_said(error)}") from error
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        found = f"{loss.dtype} {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss)
        raise ModelError("the loss cannot be used", expected="one float", found=str(found))
    return loss.reshape(())


def backward(loss: Tensor) -> None:
    """``loss.backward()``; raises :class:`ModelError` where autograd cannot."""
    try:
        loss.backward()
    except Exception as error:
        raise ModelError(f"the backward pass raised {_said(error)}") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def clear_gradients(model: nn.Module) -> None:
    """Drop every gradient, as ``optimizer.zero_grad`` does."""
    for parameter in model.parameters():
        parameter.grad = None
