"""Where in what a file holds the model lies: training code of every make has its own words.

The names are those that training code writes: torch's tutorials, timm, mmengine, detectron2,
DeepSpeed (``module``), fairseq, nnU-Net (``network_weights``), Lightning and Whisper
(``state_dict``, ``model_state_dict``), BasicSR (``params``), GAN code (``generator``, ``g_ema``),
DINO (``student``, ``teacher``), torch.distributed.checkpoint (``app``, one level further in).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from gradaudit.errors import UnreadableFile
from gradaudit.subject.formats.checkpoints.optimizer_state import progress_in, recipe_in
from gradaudit.subject.formats.checkpoints.sound import check_tensor, plain, sound
from gradaudit.subject.formats.checkpoints.ultralytics_model import as_trained, is_ultralytics
from gradaudit.subject.formats.checkpoints.wrappers import FLAT, unwrapped
from gradaudit.subject.formats.loaded import (
    Loaded,
    describe,
    is_data,
    is_state_dict,
    tensors_of,
)
from gradaudit.subject.formats.stored_weights import StoredTensor, StoredWeights, is_tensor
from gradaudit.telling import listed, quoted

# In order: what the optimizer trains goes before its moving average, a generator before its critic.
TRAINED = (
    "model", "state_dict", "model_state_dict", "model_state", "model_weights", "net", "network",
    "net_state_dict", "network_weights", "module", "weights", "params", "generator", "netG", "g",
    "policy", "student",
)  # fmt: skip
AVERAGED = (
    "ema", "ema_state_dict", "model_ema", "state_dict_ema", "ema_model", "params_ema", "g_ema",
    "generator_ema", "teacher",
)  # fmt: skip
OTHERS = ("discriminator", "netD", "d")
WITHIN = ("app", "state", "checkpoint", "train_state")  # hold the others one level further in
_KEYS = (*TRAINED, *AVERAGED, *OTHERS)
_NAMED = ("model", "state_dict", "model_state_dict", "net", "module", "ema", "params", "generator")
_LIGHTNING = "pytorch-lightning_version"
_LEVELS, _MOST = 6, 1_000_000  # of nested tables of tensors


@dataclass(frozen=True)
class _Candidate:
    where: str  # the keys that lead to it, quoted
    value: nn.Module | dict[str, Any]


def classify(content: Any, path: Path, *, prefix: str = "", trust: bool = False) -> Loaded:
    """A Module, a state dict, or a training checkpoint that holds either under a well-known key.

    Of a checkpoint also the recipe that its optimizer state tells, and how far training was.
    Raises ``UnreadableFile`` for anything else, telling what was found.
    """
    if isinstance(content, nn.Module):
        return _opened(_Candidate("", content), path, prefix, trust=trust)
    if isinstance(content, Mapping):
        entries = plain(content)
        if is_state_dict(entries):
            return _opened(_Candidate("", entries), path, prefix, trust=trust)
        found = _chosen(list(_candidates(entries)))
        if found:
            loaded = _opened(found[0], path, prefix, trust=trust)
            recipe, told = recipe_in(entries)
            notes = (*loaded.notes, *_which(found), *told)
            if loaded.model is None:
                maker = "Lightning" if _LIGHTNING in entries else "training"
                loaded = replace(loaded, format=f"{prefix}{maker} checkpoint")
            return replace(loaded, recipe=recipe, notes=notes, trained=progress_in(entries))
    raise UnreadableFile(
        f"{path.name} holds no model",
        expected="a Module, a state dict, or a dict with one under "
        + ", ".join(f"'{key}'" for key in _NAMED),
        found=describe(content),
        next_step="a data sample is given with --data" if is_data(content) else "",
    )


def _opened(found: _Candidate, path: Path, prefix: str, *, trust: bool) -> Loaded:
    value = found.value
    if isinstance(value, nn.Module):
        model = sound(value, path, trust=trust)
        model, notes = as_trained(model) if is_ultralytics(model) else (model, ())
        return Loaded(f"{prefix}pickled module", model=model, notes=notes)
    weights, notes = unwrapped(tensors_of(value))
    for name, tensor in weights.items():
        if not isinstance(tensor, StoredTensor):
            check_tensor(tensor, name, path)
    if any(name.rpartition(".")[2] in FLAT for name in weights):
        notes = (
            *notes,
            "Weights: FSDP's flat parameters, one long vector for many weights; save with "
            "StateDictType.FULL_STATE_DICT to have them judged by layer.",
        )
    return Loaded(f"{prefix}state dict", weights=StoredWeights.of(weights), notes=notes)


def _chosen(found: list[_Candidate]) -> list[_Candidate]:
    """The candidates, the one to take first: Ultralytics keeps what it trained in ``ema``."""
    theirs = any(isinstance(each.value, nn.Module) and is_ultralytics(each.value) for each in found)
    return sorted(found, key=lambda each: each.where != "'ema'") if theirs else found


def _which(found: list[_Candidate]) -> tuple[str, ...]:
    if len(found) == 1 and found[0].where.strip("'") in _KEYS:
        return ()
    others = [each.where for each in found[1:]]
    beside = f"; the file also holds weights under {listed(others, 5)}" if others else ""
    return (f"Weights: taken from {found[0].where}{beside}.",)


def _candidates(entries: dict[Any, Any]) -> Iterator[_Candidate]:
    known = list(_under(entries, ""))
    for key in (*_KEYS, *WITHIN):
        inner = entries.get(key)
        if isinstance(inner, Mapping) and not any(each.where == f"'{key}'" for each in known):
            known += _under(plain(inner), f"'{key}' / ")
    if known:
        yield from known
        return
    # a name of the user's own choosing is as good, where there is only one
    whole = ((key, _whole(value)) for key, value in entries.items())
    sole = [_Candidate(quoted(key), value) for key, value in whole if value is not None]
    if len(sole) == 1:
        yield sole[0]


def _under(entries: dict[Any, Any], within: str) -> Iterator[_Candidate]:
    for key in _KEYS:
        value = _whole(entries.get(key))
        if value is not None:
            yield _Candidate(f"{within}'{key}'", value)


def _whole(value: Any) -> nn.Module | dict[str, Any] | None:
    """A Module, or a state dict; tables of tables of tensors are joined by dots, as names are."""
    if isinstance(value, nn.Module):
        return value
    if not isinstance(value, Mapping):
        return None
    entries = plain(value)
    if is_state_dict(entries):
        return entries
    joined: dict[str, Any] = {}
    return joined if _joined(entries, "", 0, joined) and is_state_dict(joined) else None


def _joined(entries: dict[Any, Any], before: str, level: int, into: dict[str, Any]) -> bool:
    """Whether all the leaves are tensors; nothing is joined of a checkpoint's other parts."""
    for key, value in entries.items():
        if not isinstance(key, str) or level > _LEVELS or len(into) > _MOST:
            return False
        if isinstance(value, Mapping):
            if not _joined(plain(value), f"{before}{key}.", level + 1, into):
                return False
        elif is_tensor(value):
            into[f"{before}{key}"] = value
        else:
            return False
    return True
