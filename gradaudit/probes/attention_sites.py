"""Where a model's attention is: ``nn.MultiheadAttention``, or what its projections' names tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradaudit.probes.weight_sites import stores_inputs_first
from gradaudit.probes.weights_as_used import as_used

_AFFIX = r"(w|to|fc|lin|linear)?_?({})_?(proj|projection|lin|linear|layer|w)?"
_ROLES = {
    "query": re.compile(_AFFIX.format("q|query|queries"), re.IGNORECASE),
    "key": re.compile(_AFFIX.format("k|key|keys"), re.IGNORECASE),
    "value": re.compile(_AFFIX.format("v|value|values"), re.IGNORECASE),
}
_OUTPUT = re.compile(_AFFIX.format("o|out|output") + "|proj|c_proj|dense|resid_proj", re.IGNORECASE)
# Query, key and value stacked in this order, as GPT-2, timm and FlashAttention do. (BLOOM and
# GPT-NeoX interleave them by heads in `query_key_value`.)
_FUSED = re.compile("c_attn|qkv|qkv_proj|to_qkv|wqkv", re.IGNORECASE)
_NORM = re.compile("(q|k|query|key)_?(norm|layernorm|ln)|norm_(q|k|query|key)", re.IGNORECASE)
_HEADS = ("num_heads", "n_heads", "n_head", "num_attention_heads", "nheads", "nhead", "heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_kv_head")
_WIDTHS = ("head_dim", "attention_head_size", "d_head", "dim_head", "key_value_proj_dim")


@dataclass(frozen=True)
class Projections:
    """The weights of one attention module, each (outputs, inputs), heads one after another."""

    query: Tensor  # (heads * width, inputs)
    key: Tensor  # (key_heads * width, inputs)
    value: Tensor  # (key_heads * value width, inputs)
    output: Tensor | None  # (outputs, heads * value width)
    heads: int
    key_heads: int
    no_qk: str = ""  # why the score is not the plain product of query and key


def find_projections(model: nn.Module) -> Iterator[tuple[str, Projections | str]]:
    """Each attention module by name, with its projections as used or why they cannot be had."""
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if isinstance(module, nn.MultiheadAttention):
            yield path, _torchs_own(module)
            continue
        above = path.rpartition(".")[0] if path else None
        if isinstance(modules.get(above or ""), nn.MultiheadAttention) and path:
            continue
        found = _by_names(module, None if above is None else modules.get(above))
        if found is not None:
            yield path, found


def _torchs_own(module: nn.MultiheadAttention) -> Projections | str:
    used = {leaf: t for leaf, t in as_used(module) if isinstance(t, Tensor)}
    if "in_proj_weight" in used:
        parts = list(used["in_proj_weight"].chunk(3))
    else:
        parts = [used[f"{role}_proj_weight"] for role in "qkv" if f"{role}_proj_weight" in used]
    return _checked(parts, _matrix(module.out_proj), module, module.num_heads)


def _by_names(module: nn.Module, parent: nn.Module | None) -> Projections | str | None:
    """``None`` where ``module`` is no attention, as far as names tell."""
    layers = {n: c for n, c in module.named_children() if _is_dense(c)}
    roles = {role: [n for n in layers if rule.fullmatch(n)] for role, rule in _ROLES.items()}
    fused = [name for name in layers if _FUSED.fullmatch(name)]
    heads = _number(module, _HEADS)
    if all(len(names) == 1 for names in roles.values()):
        weights = [_matrix(layers[names[0]]) for names in roles.values()]
    elif len(fused) == 1:
        weights = _unfused(_matrix(layers[fused[0]]), _output(module, parent), module, heads)
        if not weights:
            return f"`{fused[0]}` cannot be told apart into query, key and value"
    elif layers and "Attention" in type(module).__name__ and heads:
        return "its query, key and value projections cannot be told from their names"
    else:
        return None
    return _checked([w for w in weights if w is not None], _output(module, parent), module, heads)


def _unfused(
    whole: Tensor | None, output: Tensor | None, module: nn.Module, heads: int | None
) -> list[Tensor | None]:
    """Query, key and value of one stacked weight; empty where the shapes do not bear it out."""
    interleaved = getattr(module, "multi_query", True) is False  # as in GPT-BigCode
    if whole is None or not heads or interleaved:
        return []
    key_heads = _number(module, _KEY_HEADS) or heads
    width, rest = divmod(len(whole), heads + 2 * key_heads)
    told = _number(module, _WIDTHS) or width
    if rest or told != width or output is None or output.shape[1] != heads * width:
        return []
    return list(whole.split([heads * width, key_heads * width, key_heads * width]))


def _checked(
    parts: list[Tensor], output: Tensor | None, module: nn.Module, heads: int | None
) -> Projections | str:
    """The projections, where shapes and numbers of heads agree; else what does not."""
    if len(parts) != 3 or any(not p.is_floating_point() or not p.numel() for p in parts):
        return "its projections hold no plain floating weights"
    query, key, value = (part.detach() for part in parts)
    width = _number(module, _WIDTHS)
    if heads is None and width is not None and len(query) % width == 0:
        heads = len(query) // width
    if not heads:
        return "the number of heads is no attribute of the module"
    if len(query) % heads or len(key) % (len(query) // heads):
        return f"{heads} heads do not divide projections of {len(query)} and {len(key)} rows"
    key_heads = len(key) // (len(query) // heads)
    told = _number(module, _KEY_HEADS) or key_heads
    if told != key_heads or heads % key_heads or len(value) % key_heads:
        return f"{heads} query heads do not share {told} key and value heads evenly"
    if output is not None and output.shape[1] != heads * (len(value) // key_heads):
        output = None
    no_qk = ""
    if any(_NORM.fullmatch(n) and not _passes(c) for n, c in module.named_children()):
        no_qk = "queries or keys are normalised before they meet"
    return Projections(query, key, value, output, heads, key_heads, no_qk)


def _passes(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity)


def _is_dense(module: nn.Module) -> bool:
    """A linear layer, or transformers' ``Conv1D``, which is one stored inputs first."""
    weight = getattr(module, "weight", None)
    dense = isinstance(module, nn.Linear) or stores_inputs_first(module)
    return dense and getattr(weight, "ndim", 0) == 2


def _matrix(module: nn.Module) -> Tensor | None:
    """A dense layer's weight as used, (outputs, inputs); ``None`` where it has no values."""
    weight = dict(as_used(module)).get("weight")
    if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.device.type == "meta":
        return None
    if weight.layout != torch.strided or weight.is_quantized:
        return None
    return weight.detach() if isinstance(module, nn.Linear) else weight.detach().T


def _output(module: nn.Module, parent: nn.Module | None) -> Tensor | None:
    """The output projection: the module's own, or, as in BERT, in the parent's ``output.dense``."""
    for name, child in module.named_children():
        if not _OUTPUT.fullmatch(name):
            continue
        inside = [child, *child.children()]  # a container holds the layer and its dropout
        for layer in inside:
            if _is_dense(layer):
                return _matrix(layer)
    beside = getattr(getattr(parent, "output", None), "dense", None)
    return _matrix(beside) if isinstance(beside, nn.Module) and _is_dense(beside) else None


def _number(module: nn.Module, names: tuple[str, ...]) -> int | None:
    """The first of these attributes that is a positive integer, the module's or its config's."""
    for holder in (module, getattr(module, "config", None)):
        for name in names:
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None
