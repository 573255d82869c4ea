"""Names of weights as wrappers around a model leave them, and as the model itself has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_PARALLEL = "module."  # DataParallel, DistributedDataParallel, DeepSpeed
# anywhere in a name: torch.compile, FSDP, activation checkpointing
_INSIDE = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
FLAT = ("_flat_param", "flat_param")  # FSDP's own parameters, of many joined

_Value = TypeVar("_Value")


def unwrapped(weights: Mapping[str, _Value]) -> tuple[dict[str, _Value], tuple[str, ...]]:
    """The weights by the model's own names, and what was taken off, in a sentence.

    Names stay as they are where two would become one.
    """
    parallel, taken = 0, set()
    names = {name: name for name in weights}
    changed = True
    while changed:  # compiled then parallel, or parallel then compiled
        changed = False
        for name, short in names.items():
            parts = short.split(".")
            found = [part for part in parts if part in _INSIDE]
            taken |= set(found)
            names[name] = ".".join(part for part in parts if part not in _INSIDE)
        if names and all(short.startswith(_PARALLEL) for short in names.values()):
            names = {name: short.removeprefix(_PARALLEL) for name, short in names.items()}
            parallel, changed = parallel + 1, True
    if (not parallel and not taken) or len(set(names.values())) < len(names):
        return dict(weights), ()
    words = [f"'{word}.' ({_INSIDE[word]})" for word in sorted(taken)]
    words += [f"'{_PARALLEL}' (data parallel)"] * bool(parallel)
    note = f"Names: {' and '.join(words)} is taken off the names of the weights."
    return {names[name]: value for name, value in weights.items()}, (note,)
