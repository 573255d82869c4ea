"""Borrowing the user's model: whatever happens inside, it comes back bit for bit."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradaudit.subject.eager import eager
from gradaudit.subject.process_state import save_process_state

_CONSTANTS = frozenset({type(None), bool, int, float, complex, str, bytes})
_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


@contextmanager
def borrowed(model: nn.Module, *, training: bool | None = None) -> Iterator[nn.Module]:
    """Yield ``model`` to be run, trained or altered, and put it back exactly on exit.

    Put back, also when the body raises: values, storage, class and identity of parameters, buffers
    and tensors kept as attributes; ``requires_grad``; ``.grad`` (the very same tensors); every
    module's ``__dict__`` with the contents of the lists, dicts, sets and deques in it (so also
    registration, hooks, training flags, counters, stored states); generators kept as attributes;
    random states and global flags (see :func:`save_process_state`).

    Inside, every ``.grad`` is ``None``, modules are in ``training`` mode if it is given, and what
    is compiled runs as the Python it was compiled from.
    Not covered: attributes of the user's own objects that are not modules.

    Memory: one copy of the parameters, buffers and tensor attributes. A loan inside another
    copies only what has changed since, and shares the outer one's copies of the rest.
    """
    restore_process = save_process_state()
    snapshot = _Snapshot(_loans[-1] if _loans else None)
    try:
        snapshot.take(model)
        _loans.append(snapshot)
        if training is not None:
            model.train(training)
        with eager(model):
            yield model
    finally:
        if snapshot in _loans:
            _loans.remove(snapshot)
        try:
            snapshot.put_back()
        finally:
            restore_process()


class _Snapshot:
    """What was seen on a walk through a model, as functions that put each part back."""

    def __init__(self, outer: _Snapshot | None = None) -> None:
        self._restores: list[Callable[[], None]] = []
        # keeps what was seen alive, so that an id is never used twice
        self._seen: dict[int, Any] = {}
        self._copies: dict[int, torch.Tensor] = {}
        self._outer = outer

    def copy_of(self, tensor: torch.Tensor, solid: torch.Tensor) -> torch.Tensor:
        """A copy of ``solid``, the values of ``tensor``: an outer loan's where the bits agree."""
        known = self._known(tensor)
        copy = known if known is not None and _same_bits(known, solid) else solid.clone()
        self._copies[id(tensor)] = copy
        return copy

    def _known(self, tensor: torch.Tensor) -> torch.Tensor | None:
        loan = self._outer
        while loan is not None:
            if loan._seen.get(id(tensor)) is tensor:
                return loan._copies.get(id(tensor))
            loan = loan._outer
        return None

    def take(self, root: Any) -> None:
        """Walk modules, tensors and builtin containers reachable from ``root``."""
        todo = [root]
        while todo:
            item = todo.pop()
            if type(item) in _CONSTANTS or id(item) in self._seen:
                continue
            with torch._C.DisableTorchFunctionSubclass():
                saved = _save(item, self)
            if saved is None:
                continue
            restore, inside = saved
            self._seen[id(item)] = item
            self._restores.append(restore)
            todo.extend(inside)

    def put_back(self) -> None:
        # the deepest first: a lazy parameter regains its class before its module does
        failed: BaseException | None = None
        for restore in reversed(self._restores):
            try:
                _put_back(restore)
            except Exception as error:  # the rest must come back all the same
                failed = failed or error
            except BaseException as interruption:  # Ctrl-C, perhaps halfway: once more
                failed = interruption
                _put_back(restore)
        if failed is not None:
            raise failed


def _put_back(restore: Callable[[], None]) -> None:
    # lazy tensors forbid most functions on themselves, .data among them
    with torch._C.DisableTorchFunctionSubclass():
        restore()


# The loans that are on, the innermost last: what a loan inside another may share copies with.
_loans: list[_Snapshot] = []

_Saved = tuple[Callable[[], None], list[Any]]


def _save(item: Any, snapshot: _Snapshot) -> _Saved | None:
    """How to put ``item`` back, and what lies inside it; ``None`` for what cannot change."""
    if isinstance(item, torch.Tensor):
        return _save_tensor(item, snapshot), []
    if isinstance(item, torch.jit.ScriptModule):
        return _save_script(item)
    if isinstance(item, nn.Module):
        return _save_module(item)
    if isinstance(item, (dict, list, set, deque)):
        return _save_container(item)
    if isinstance(item, tuple):
        return (lambda: None), list(item)
    return _save_generator(item)


def _save_module(module: nn.Module) -> _Saved:
    kind, attributes = type(module), vars(module)
    saved = dict(attributes)

    def restore() -> None:
        if type(module) is not kind:  # a lazy module that became a real one
            module.__class__ = kind
        attributes.clear()
        attributes.update(saved)

    return restore, list(saved.values())


def _save_script(module: Any) -> _Saved:
    # its state lives in C++: only tensors and the mode can be reached
    mode = module.training
    inside = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return (lambda: setattr(module, "training", mode)), [*inside, *module.children()]


def _save_container(item: Any) -> _Saved:
    if isinstance(item, dict):
        # OrderedDict keeps its order beside the dict: its own methods must be used
        kind = OrderedDict if isinstance(item, OrderedDict) else dict
        if not item:  # as most of a module's dicts of hooks are
            return partial(kind.clear, item), []
        pairs = list(kind.items(item))

        def restore_dict() -> None:
            kind.clear(item)
            kind.update(item, pairs)

        return restore_dict, [value for _, value in pairs]
    values = list(item)

    def restore() -> None:
        item.clear()
        item.update(values) if isinstance(item, set) else item.extend(values)

    return restore, values


def _save_generator(item: Any) -> _Saved | None:
    if isinstance(item, torch.Generator):
        state = item.get_state()
        return (lambda: _do(item.set_state(state))), []
    if isinstance(item, random.Random):
        python = item.getstate()
        return (lambda: item.setstate(python)), []
    if isinstance(item, np.random.Generator):
        bits = item.bit_generator.state
        return (lambda: setattr(item.bit_generator, "state", bits)), []
    if isinstance(item, np.ndarray) and item.flags.writeable:
        values = item.copy()
        return (lambda: np.copyto(item, values)), []
    return None


def _do(_: object) -> None:
    """Drop a returned value."""


def _save_tensor(tensor: torch.Tensor, snapshot: _Snapshot) -> Callable[[], None]:
    kind, data, requires_grad = type(tensor), tensor.data, tensor.requires_grad
    was_leaf = tensor.is_leaf
    put_hooks_back = _save_tensor_hooks(tensor)
    values = None if is_lazy(tensor) else snapshot.copy_of(tensor, _solid(data))
    grad = tensor.grad if was_leaf else None
    if was_leaf:
        tensor.grad = None

    def restore() -> None:
        if type(tensor) is not kind:
            tensor.__class__ = kind
        if was_leaf and not tensor.is_leaf:
            tensor.detach_()  # an in-place update under autograd gave it a history
        if was_leaf:
            tensor.grad = None  # a gradient of another shape or dtype forbids setting .data
        if not _same_storage(tensor.data, data):
            tensor.data = data
        if values is not None:
            # through .data: the version counter stays, so graphs made earlier stay valid
            _solid(tensor.data).copy_(values)
        if tensor.requires_grad != requires_grad:
            tensor.requires_grad_(requires_grad)
        if was_leaf:
            tensor.grad = grad
        put_hooks_back()

    return restore


def _solid(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` without its repeated (stride 0) axes, which cannot be written to."""
    if tensor.layout is not torch.strided:
        return tensor
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two plain tensors hold the same bits (a NaN equals itself, 0.0 is not -0.0)."""
    for tensor in (a, b):
        if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
            return False
        if tensor.is_meta or tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
            return False
    if (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
        return False
    integer = _INTEGERS.get(a.itemsize)
    return integer is not None and torch.equal(a.view(integer), b.view(integer))


def _same_storage(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.layout is not torch.strided or b.layout is not torch.strided:
        return False
    return (a.data_ptr(), a.shape, a.stride(), a.dtype, a.device) == (
        (b.data_ptr(), b.shape, b.stride(), b.dtype, b.device)
    )


def _save_tensor_hooks(tensor: torch.Tensor) -> Callable[[], None]:
    before = {name: getattr(tensor, name, None) for name in _TENSOR_HOOKS}
    entries = {name: list(hooks.items()) for name, hooks in before.items() if hooks is not None}

    def restore() -> None:
        for name, hooks in before.items():
            now = getattr(tensor, name, None)
            if hooks is None:
                if now:
                    now.clear()
                continue
            hooks.clear()
            hooks.update(entries[name])
            if now is not hooks:
                setattr(tensor, name, hooks)

    return restore
