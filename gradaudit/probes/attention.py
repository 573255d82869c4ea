"""Where attention looks: the entropy of its weights, by call and head, in one forward pass.

Every way of computing attention ends in the same operations below autograd, so that is where it is
watched: a fused ``scaled_dot_product_attention`` kernel, or a softmax whose result is then a factor
in a product over its keys (``nn.MultiheadAttention``, hand-written attention, ``einsum``). A
product with a parameter is a layer on probabilities and does not count. The fused transformer
layer, which shows neither, is switched off. Attention that ends in neither is seen by its name at
most, and then said not to be measured.

The entropy of a query's weights is given as a share of ``ln n``, where ``n`` counts the keys that
its mask allows: 1 looks everywhere alike, 0 at one key only. Low entropy goes with unstable
training (Zhai et al. 2023, arXiv 2303.06296). Queries with fewer than two keys have none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gradaudit.probes._attention_looks import Looks, fused_looks, looks_of, of_kernel
from gradaudit.probes._hooks import CallStack, ModuleCall
from gradaudit.probes.representation import samples_of
from gradaudit.probes.trace import tensors_in
from gradaudit.records import AttentionRow, Estimate, NotMeasured
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Opened
from gradaudit.telling import listed

UNIT = "share of ln(keys allowed)"
_CARRIED = frozenset(
    ("mul", "div", "clone", "native_dropout", "_to_copy", "masked_fill", "nan_to_num", "where")
)
_PRODUCTS = {"bmm": 0, "mm": 0, "matmul": 0, "baddbmm": 1, "addmm": 1}  # place of the left factor
_HEAD_COUNTS = ("num_heads", "n_heads", "n_head", "nhead", "num_attention_heads", "heads")
_PENDING = 8  # softmaxes that still may turn out to be attention
_NAMED = re.compile(r"[Aa]tt(n|ention)|Att(?![a-z])|(?<![A-Za-z])att(?![a-z])")  # not "Flatten"


def measure_attention(
    opened: Opened, settings: Settings
) -> tuple[tuple[AttentionRow, ...], tuple[NotMeasured, ...]]:
    """A row per call of attention on the first batch; empty for a model without attention.

    Call it inside ``borrowed(model, training=...)``. One forward pass without gradients and, for
    fused kernels, their products of queries and keys once more, in pieces of 16 MiB; nothing at
    quick effort. Exact for this batch: the mean over samples and heads of a mean over queries.
    """
    if opened.model is None or not opened.batches:
        return (), ()
    if settings.effort == "quick":
        why = "it takes a forward pass of its own, which quick effort has no room for"
        gap = NotMeasured("attention entropy", "the model", why)
        return (), (gap,) if _speaks_of_attention(opened.model) else ()
    with borrowed(opened.model) as model, CallStack(model) as stack, _unfused(), torch.no_grad():
        watch = _Watch(stack, samples_of(opened), {_storage(p) for p in model.parameters()})
        try:
            with watch:
                opened.batches[0].run(model)
        except Exception as error:  # code that runs alone but not under a dispatch mode
            why = f"watching every operation raised {type(error).__name__}: {error}".splitlines()[0]
            return (), (NotMeasured("attention entropy", "the model", why),)
    return tuple(watch.rows), (*watch.missing, *_unseen(watch, opened.model))


def _unseen(watch: _Watch, model: nn.Module) -> Iterator[NotMeasured]:
    """What is called attention and was not recognised as such."""
    if watch.unused:
        why = "its softmax is not a factor in a matrix product, as weights of values are"
        yield NotMeasured("attention entropy", listed(watch.unused), why)
    elif not watch.rows and _speaks_of_attention(model):
        why = "no fused kernel ran, and no softmax was a factor in a matrix product"
        yield NotMeasured("attention entropy", "the model", why)


def _speaks_of_attention(model: nn.Module) -> bool:
    return any(_named_attention(name, module) for name, module in model.named_modules())


def _named_attention(name: str, module: nn.Module) -> bool:
    return bool(_NAMED.search(name) or _NAMED.search(type(module).__name__))


@contextmanager
def _unfused() -> Iterator[None]:
    """No kernel for a whole transformer layer, which would hide the attention inside."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass(eq=False)
class _Pending:
    """A softmax whose result may become a factor; the tensor keeps its storage from reuse."""

    result: Tensor
    looks: Looks
    where: str  # the module that took it, where that is called attention


class _Watch(TorchDispatchMode):
    """Sees the operations of one forward pass and writes a row for each attention."""

    def __init__(self, stack: CallStack, samples: int, parameters: set[int]) -> None:
        super().__init__()
        self._stack, self._samples, self._parameters = stack, samples, parameters
        self._pending: dict[int, _Pending] = {}
        self._counts: dict[str, int] = {}
        self.rows: list[AttentionRow] = []
        self.missing: list[NotMeasured] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(func.name()).rpartition("::")[2].partition(".")[0]
        if name.startswith("_scaled_dot_product") and not name.endswith("_backward"):
            self._write(fused_looks(**of_kernel(func, args, kwargs)))
            return func(*args, **kwargs)
        if name in ("_softmax", "_safe_softmax"):
            looks = looks_of(args[0].movedim(args[1], -1)) if args[0].dim() > 1 else None
            result = func(*args, **kwargs)
            if looks is not None:
                self._wait(result, looks, self._attention())
            return result
        if name in _PRODUCTS:
            self._product(*args[_PRODUCTS[name] : _PRODUCTS[name] + 2])
        result = func(*args, **kwargs)
        if name in _CARRIED:
            self._carry(args, result)
        return result

    @property
    def unused(self) -> list[str]:
        """Modules called attention whose softmax has become no factor."""
        return list(dict.fromkeys(p.where for p in self._pending.values() if p.where))

    def _attention(self) -> str:
        call = self._stack.current
        if call is None or not _named_attention(call.name, call.module):
            return ""
        return call.name or "the model"

    def _wait(self, result: Tensor, looks: Looks, where: str) -> None:
        self._pending[_storage(result)] = _Pending(result, looks, where)
        if len(self._pending) > _PENDING:
            del self._pending[next(iter(self._pending))]

    def _carry(self, args: Any, result: Any) -> None:
        """Dropout, a mask or a cast behind the softmax leave it what it is."""
        source = next((p for t in tensors_in(args) if (p := self._pending.get(_storage(t)))), None)
        target = next(tensors_in(result), None)
        if source is not None and target is not None and target.shape == source.result.shape:
            self._wait(target, source.looks, source.where)

    def _product(self, left: Tensor, right: Tensor) -> None:
        for factor, other, contracted in ((left, right, -1), (right, left, -2)):
            pending = self._pending.get(_storage(factor))
            if pending is None or factor.shape[contracted] != pending.looks.keys:
                continue
            if _storage(other) in self._parameters or pending.looks.keys < 1:
                continue
            self._write(pending.looks)
            looks = pending.looks
            self._pending = {k: p for k, p in self._pending.items() if p.looks is not looks}
            return

    def _write(self, looks: Looks) -> None:
        call = self._stack.current
        module = call.name if call is not None else ""
        index = self._counts.get(module, 0)
        self._counts[module] = index + 1
        share, masked = (_by_head(t, call, self._samples) for t in (looks.share, looks.masked))
        entropy, by_head, why = _entropy(share, looks)
        if why:
            where = (module or "the model") + (f", call {index}" if index else "")
            self.missing.append(NotMeasured("attention entropy", where, why))
        lowest = None if by_head is None else int(by_head.argmin())
        self.rows.append(
            AttentionRow(
                module=module,
                call=index,
                heads=share.shape[1],
                queries=looks.share.shape[-1],
                keys=looks.keys,
                entropy=entropy,
                lowest_head=lowest,
                lowest_entropy=None if by_head is None else float(by_head.min()),
                masked_queries=int(masked.any(1).sum()),
                largest_logit=looks.largest if math.isfinite(looks.largest) else None,
            )
        )


def _entropy(share: Tensor, looks: Looks) -> tuple[Estimate | None, Tensor | None, str]:
    """Mean over samples, mean by head, and why there is none; ``share`` is [samples, heads, q]."""
    if not math.isfinite(looks.largest):
        return None, None, "a logit is NaN or infinite"
    if bool(share.isnan().all()):
        return None, None, "no query may look at two keys or more"
    rows = share.double().nanmean(2)
    rows = rows[~rows.isnan().any(1)]
    if not len(rows):
        return None, None, "in every sample there is a head whose queries have one key at most"
    return Estimate.exact(float(rows.mean()), UNIT), rows.mean(0), ""


def _by_head(values: Tensor, call: ModuleCall | None, samples: int) -> Tensor:
    """``[*leading, queries]`` as ``[samples, heads, queries]``; a sample's windows are joined."""
    leading, queries = values.shape[:-1], values.shape[-1]
    if len(leading) >= 2:
        values = values.flatten(2)
        if len(values) != samples and samples and len(values) % samples == 0:
            parts = values.unflatten(0, (samples, -1)).transpose(1, 2)
            return parts.flatten(2)
        return values
    count = leading[0] if leading else 1
    heads = _heads(call, count, samples)
    return values.reshape(count // heads, heads, queries)


def _heads(call: ModuleCall | None, count: int, samples: int) -> int:
    """Heads in a leading dimension of ``samples x heads``: the module's word, else by division."""
    module = call.module if call is not None else None
    told = next((n for a in _HEAD_COUNTS if isinstance(n := getattr(module, a, None), int)), 0)
    if (
        told > 0
        and count % told == 0
        and (isinstance(module, nn.MultiheadAttention) or count != samples)
    ):
        return told
    return count // samples if samples and count % samples == 0 else 1


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)
