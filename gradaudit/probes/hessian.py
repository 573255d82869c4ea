"""Products of the loss's Hessian with vectors, for whatever the model is made of.

The usual way is to differentiate the gradient's own graph (Pearlmutter 1994), which is built once
and used for every product. Where an operation has no second derivative, the gradient is taken at
two points instead.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradaudit.linalg.lanczos import dot
from gradaudit.probes._hooks import all_finite, backward, take_loss
from gradaudit.probes.kernels import unfused
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Objective
from gradaudit.subject.process_state import save_process_state

DOUBLE, DIFFERENCES = "double backward", "differences of gradients"
_PEAKED = 10.0  # a difference moves no entry by more than so many times its usual share


@contextmanager
def second_order_kernels(model: nn.Module) -> Iterator[None]:
    """Choose kernels that can be differentiated twice; call it inside ``borrowed(model)``.

    Those of :func:`gradaudit.probes.kernels.unfused`, and embeddings with dense gradients.
    """
    for module in model.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            module.sparse = False
    with unfused(model), warnings.catch_warnings():
        # of a kernel that is passed over, which is no news to the user
        warnings.filterwarnings("ignore", message=".*oneDNN.*", category=UserWarning)
        yield


class Hessian:
    """The Hessian of ``objective`` on ``batch`` with respect to ``parameters``, as a linear map.

    Make and use it inside ``borrowed(model)`` and :func:`second_order_kernels`. Vectors are flat,
    in the order of ``parameters``, of :attr:`dtype`. All products see the same random numbers, so
    that dropout masks do not change between them, and the same buffers.

    ``how`` is ``DOUBLE``, or ``DIFFERENCES`` where some operation cannot be differentiated twice (a
    custom function without a second derivative, re-entrant checkpointing, a compiled graph; where
    custom functions are in the graph, second derivatives are held against differences once):
    central differences ``(g(w + h v) - g(w - h v)) / 2h``, each ``w`` moved by about the cube root
    of the machine epsilon of its size. They are good to about 1e-3 where the gradient is smooth at
    that scale; kinks (ReLU) add noise, which shows as asymmetry.

    Cost of a product: about two and a half training steps either way; the first one costs one and
    a half more. Memory: the graph of the gradient, about three times the activations.

    Raises :class:`ModelError` where the model itself does.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, batch: Batch, parameters: Sequence[Tensor]
    ) -> None:
        self._model, self._objective, self._batch = model, objective, batch
        self._parameters = list(parameters)
        self.size = sum(p.numel() for p in self._parameters)
        self.dtype = widest(self._parameters)
        self.device = self._parameters[0].device
        self.how = DOUBLE
        self.finite = True  # loss and gradient
        self.products = 0
        # of each parameter's gradient; none where the loss does not depend on it, or only linearly
        self._edges: list[GradientEdge | None] = [None] * len(self._parameters)
        self._build()

    def _build(self) -> None:
        self._start_again = save_process_state()
        _, loss = take_loss(self._model, self._objective, self._batch)
        self.loss = float(loss.detach())
        if not loss.requires_grad:
            self.finite = math.isfinite(self.loss)
            return
        try:
            found = torch.autograd.grad(
                loss, self._parameters, create_graph=True, materialize_grads=True
            )
        except Exception:  # RuntimeError or NotImplementedError, or whatever a custom backward does
            self.use_differences()
            self.finite = math.isfinite(self.loss) and all_finite([self._gradient_at(None)])
            return
        # their graph is needed further on, their values are not: they are as large as the model
        self._edges = [get_gradient_edge(g) if g.requires_grad else None for g in found]
        self.finite = math.isfinite(self.loss) and all_finite(list(found))
        if self.finite and _has_custom_functions(loss) and not self._holds(found):
            self.use_differences()

    def use_differences(self) -> None:
        """Take differences of gradients from here on."""
        self.how = DIFFERENCES
        self._edges = []

    def product(self, vector: Tensor, out: Tensor | None = None) -> Tensor:
        """``H @ vector``; written into ``out`` if given, which may be ``vector`` itself."""
        self.products += 1
        if self.how == DOUBLE:
            try:
                return self._double(vector, out)
            except Exception:  # as above: once_differentiable raises only here
                self.use_differences()
        image = self._difference(vector)
        return image if out is None else out.copy_(image)

    def _double(self, vector: Tensor, out: Tensor | None = None) -> Tensor:
        # where the loss is linear in a parameter its gradient has no graph
        pairs = [
            (edge, piece)
            for edge, piece in zip(self._edges, self._pieces(vector), strict=True)
            if edge is not None
        ]
        if not pairs:
            return torch.zeros_like(vector) if out is None else out.zero_()
        outputs, directions = zip(*pairs, strict=True)
        options: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}
        return self._flat(
            list(torch.autograd.grad(outputs, self._parameters, directions, **options)), out
        )

    def _difference(self, vector: Tensor) -> Tensor:
        length = dot(vector, vector) ** 0.5
        if length == 0:
            return torch.zeros_like(vector)
        weights = self._flat([p.detach() for p in self._parameters])
        rms = (dot(weights, weights) / self.size) ** 0.5 or 1.0
        peak = float(vector.abs().max())
        # spread directions move by a share of the weights' norm, peaked ones of a weight's size
        reach = min(rms * self.size**0.5 / length, _PEAKED * rms / peak)
        h = torch.finfo(self.dtype).eps ** (1 / 3) * reach
        return (self._gradient_at(h * vector) - self._gradient_at(-h * vector)) / (2 * h)

    def _gradient_at(self, shift: Tensor | None) -> Tensor:
        """The gradient with the weights moved by ``shift``; everything is put back."""
        with borrowed(self._model):
            self._start_again()
            if shift is not None:
                with torch.no_grad():
                    for parameter, piece in zip(self._parameters, self._pieces(shift), strict=True):
                        parameter.add_(piece)
            _, loss = take_loss(self._model, self._objective, self._batch)
            backward(loss)
            # re-entrant checkpointing knows .backward() alone
            return self._flat([p.grad for p in self._parameters])

    def _holds(self, found: Sequence[Tensor]) -> bool:
        """Whether gradient and second derivative are what gradients at three points say.

        A custom function may hide from autograd what its backward pass depends on, and re-entrant
        checkpointing hides its parameters, both without an error.
        """
        gradient = self._gradient_at(None)
        if not _close(gradient, self._flat([g.detach() for g in found]), 1e-3):
            return False
        return _close(self._double(gradient), self._difference(gradient), 2e-2)

    def _pieces(self, flat: Tensor) -> list[Tensor]:
        """``flat`` cut up and cast to the parameters' shapes and dtypes."""
        pieces = zip(self._pieces_of(flat), self._parameters, strict=True)
        return [piece.to(parameter.dtype) for piece, parameter in pieces]

    def _pieces_of(self, flat: Tensor) -> list[Tensor]:
        split = flat.split([p.numel() for p in self._parameters])
        return [v.view(p.shape) for v, p in zip(split, self._parameters, strict=True)]

    def _flat(self, tensors: list[Tensor | None], out: Tensor | None = None) -> Tensor:
        """``tensors`` as one flat tensor; the list is emptied on the way, to free what it holds."""
        flat = out
        if flat is None:
            flat = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        tensors.reverse()
        for piece in self._pieces_of(flat):
            tensor = tensors.pop()
            if tensor is None:
                piece.zero_()
            else:
                piece.copy_(tensor.to_dense() if tensor.is_sparse else tensor)
        return flat


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    apart = a - b
    return dot(apart, apart) <= tolerance**2 * max(dot(a, a), dot(b, b))


def _has_custom_functions(loss: Tensor) -> bool:
    """Whether a Python function with a backward pass of its own made the loss."""
    todo, seen = [loss.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return True
        todo.extend(parent for parent, _ in node.next_functions)
    return False


def widest(tensors: Sequence[Tensor]) -> torch.dtype:
    """The dtype that holds all of them, float32 or wider."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
