"""What the optimizer state in a checkpoint says of the recipe; every number in it is doubted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch

from gradaudit.errors import UsageError
from gradaudit.recipes import recipe_from
from gradaudit.records import Recipe
from gradaudit.subject.formats.checkpoints.sound import plain
from gradaudit.subject.formats.stored_weights import StoredTensor, is_tensor
from gradaudit.telling import listed, quoted

_PLACES = (
    "optimizer", "optimizer_state_dict", "optimizer_state", "optimizer_states", "optimizers",
    "optim", "optim_state_dict", "opt", "opt_state", "last_optimizer_state", "optimizer_g",
    "optim_g", "g_optim", "base_optimizer_state",
)  # fmt: skip
_WITHIN = ("app", "state", "checkpoint", "train_state", *_PLACES)
# Keys that torch's classes have gained over time: older files lack them.
_LATER = {
    "foreach", "maximize", "capturable", "differentiable", "fused", "decoupled_weight_decay",
}  # fmt: skip
# Keys that schedulers and training code put beside the optimizer's own.
_BESIDE = {
    "params", "param_names", "initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum",
    "swa_lr", "lr_scale", "lr_mult", "name", "group_name",
}  # fmt: skip
_NUMBERS = ("momentum", "betas", "eps", "weight_decay")
_COUNTERS = (
    "epoch", "current_epoch", "global_step", "global_steps", "step", "steps", "iteration",
    "iterations", "iter", "iter_num", "num_updates",
)  # fmt: skip
_MARK = "exp_inf"  # only Adamax keeps one
_LARGEST = 1 << 60
_DECOUPLED = {"adam": False, "adamw": True}


def recipe_in(content: Mapping[Any, Any]) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe that a checkpoint's optimizer state tells, and the sentences that say so."""
    states = list(_states(content, 0))
    if not states:
        return Recipe(), ()
    group, several = _fastest(states[0])
    ignored: list[str] = []
    values, rate = _numbers(group, ignored)
    kinds = [kind for kind in _kinds(group) if _fits(kind, states[0])]
    sure = len(kinds) == 1
    if sure:
        taken = {key: value for key, value in values.items() if _takes(kinds[0], key)}
        values = {"optimizer": kinds[0], **taken}
    notes = []
    if values:
        shown = ", ".join(f"{key} {_shown(value)}" for key, value in values.items() if key != "lr")
        told = [part for part in (shown, rate, several, _unsure(kinds)) if part]
        notes.append(
            f"Recipe: taken from the optimizer state in the file: {'; '.join(told)}. "
            "Options go before it."
        )
    if ignored:
        notes.append(f"Recipe: ignored in the file's optimizer state: {listed(ignored, 5)}.")
    if len(states) > 1:
        notes.append(f"Recipe: the first of {len(states)} optimizers in the file is taken.")
    return Recipe(**values), tuple(notes)


def progress_in(content: Mapping[Any, Any]) -> str:
    """What says that the weights were trained; empty where nothing does."""
    entries = plain(content)
    meta = entries.get("meta")
    for place in (entries, plain(meta) if isinstance(meta, Mapping) else {}):
        for key in _COUNTERS:
            value = place.get(key)
            if type(value) is int and 0 < value < _LARGEST:
                return f"the file says {key} {value:,}"
    for state in _states(content, 0):
        held = state.get("state")
        if isinstance(held, Mapping) and len(held):
            return "the file holds an optimizer's state after its first step"
    return ""


def _states(content: Mapping[Any, Any], level: int) -> Iterator[dict[Any, Any]]:
    """The states of optimizers, each with its list of groups; the first found in order."""
    entries = plain(content)
    groups = entries.get("param_groups")
    if isinstance(groups, list) and any(isinstance(group, Mapping) for group in groups):
        yield entries
        return
    if level > 2:
        return
    places = _WITHIN if level == 0 else tuple(dict.fromkeys((*_WITHIN, *list(entries)[:8])))
    for key in places:
        value = entries.get(key)
        parts = value if isinstance(value, (list, tuple)) else (value,)
        for part in parts[:8]:
            if isinstance(part, Mapping):
                yield from _states(part, level + 1)


def _fastest(state: Mapping[Any, Any]) -> tuple[dict[Any, Any], str]:
    """The group with the highest rate, of those the one with the most decay."""
    groups = [plain(group) for group in state["param_groups"] if isinstance(group, Mapping)]

    def order(group: Mapping[Any, Any]) -> tuple[float, float]:
        rate, _ = _rate(group, [])
        return rate or 0.0, _checked("weight_decay", group.get("weight_decay"), []) or 0.0

    several = f"the fastest of {len(groups)} groups" if len(groups) > 1 else ""
    return max(groups, key=order), several


def _numbers(group: Mapping[Any, Any], ignored: list[str]) -> tuple[dict[str, Any], str]:
    """The group's sound numbers, and in words where its rate is from."""
    rate, words = _rate(group, ignored)
    values = {} if rate is None else {"lr": rate}
    for name in _NUMBERS:
        if name in group:
            value = _checked(name, group[name], ignored)
            if value is not None:
                values[name] = value
    return values, words


def _rate(group: Mapping[Any, Any], ignored: list[str]) -> tuple[float | None, str]:
    """The rate that the schedule started from or led up to, where there was one."""
    found = {
        name: value
        for name in ("max_lr", "initial_lr", "lr")
        if name in group and (value := _checked("lr", group[name], ignored, name)) is not None
    }
    if not found:
        return None, ""
    source, rate = next(iter(found.items()))
    now = found.get("lr")
    if source == "lr" or now == rate:
        return rate, f"lr {rate:g}"
    then = "" if now is None else f"; a schedule had it at {now:g} when the file was written"
    return rate, f"lr {rate:g} (its {source}{then})"


def _checked(name: str, value: Any, ignored: list[str], called: str = "") -> Any:
    """The value, if a recipe can have it."""
    plain_value = _number(value)
    if isinstance(value, (list, tuple)) and len(value) == 2:
        plain_value = tuple(map(_number, value))
    try:
        found = recipe_from({name: plain_value}, "the file")
    except (UsageError, OverflowError, ValueError):
        ignored.append(f"{called or name} {_short(value)}")
        return None
    if plain_value is None:
        if value is not None:
            ignored.append(f"{called or name} {_short(value)}")
        return None
    return getattr(found, name)


def _number(value: Any) -> Any:
    """A number; torch takes a rate that is a tensor of one entry, and so do files."""
    if isinstance(value, StoredTensor) and value.numel == 1 and value.dtype.is_floating_point:
        value = value.read()
    if isinstance(value, torch.Tensor) and value.numel() == 1 and value.is_floating_point():
        return float(value)
    if type(value) is float or (type(value) is int and abs(value) < _LARGEST):
        return value
    return None


def _short(value: Any) -> str:
    if is_tensor(value):
        return "(a tensor)"
    if isinstance(value, (bool, float, str)) or (type(value) is int and abs(value) < _LARGEST):
        return quoted(value, 30)
    return f"({type(value).__name__})"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(f'{item:g}' for item in value)})"
    return value if isinstance(value, str) else f"{value:g}"


def _kinds(group: Mapping[Any, Any]) -> list[str]:
    """Names of torch's optimizers whose groups have these keys."""
    keys = {key for key in group if isinstance(key, str)}
    found = [
        name
        for name, own in _own_keys().items()
        if own - _LATER <= keys <= own | _BESIDE
        and _DECOUPLED.get(name)
        in (None, group.get("decoupled_weight_decay", _DECOUPLED.get(name)))
    ]
    if found == ["adam", "adamw"] and group.get("weight_decay") == 0:
        return ["adam"]  # without decay they are the same
    return found


def _fits(kind: str, state: Mapping[Any, Any]) -> bool:
    """Whether what is kept for the parameters speaks against a kind whose groups look alike."""
    held = state.get("state")
    kept = list(plain(held).values())[:1] if isinstance(held, Mapping) else []
    return not kept or not isinstance(kept[0], Mapping) or (_MARK in kept[0]) == (kind == "adamax")


def _unsure(kinds: list[str]) -> str:
    if len(kinds) == 1:
        return ""
    what = f"{' or '.join(kinds)}, which it does not tell apart" if kinds else "none of torch's"
    return f"of which kind it is, is left open ({what})"


@cache
def _own_keys() -> dict[str, frozenset[str]]:
    """Class name in small letters -> the keys of its groups, by torch's own defaults."""
    found = {}
    for name, cls in sorted(vars(torch.optim).items()):
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    made = cls([torch.nn.Parameter(torch.zeros(2, 2))], **_RATE.get(name, {}))
            except (TypeError, ValueError):
                continue  # the base class
            found[name.lower()] = frozenset(made.param_groups[0])
    return found


_RATE: dict[str, dict[str, Any]] = {"SGD": {"lr": 0.1}}


def _takes(kind: str, name: str) -> bool:
    return name == "lr" or name in _own_keys()[kind]
