"""Where a model's parameters are used: each by its name, and the module that computes with it.

In most models a parameter lies in the module that uses it. The nodes of an ONNX graph use
parameters that have places, and names, of their own (:mod:`gradaudit.onnx_graph.node`): such a
module says so by ``borrowed``, names by attribute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Place:
    """One use of a parameter: its name, the module's path, and the attribute it is there."""

    name: str
    module: str
    leaf: str
    parameter: nn.Parameter


def places(model: nn.Module) -> Iterator[Place]:
    """Every use of every parameter, in the order of modules; a tied one has several."""
    away = lent(model)
    for path, module in model.named_modules():
        names = borrowed(module)
        own = module.named_parameters(recurse=False, remove_duplicate=False)
        for leaf, parameter in own:
            here = f"{path}.{leaf}" if path else leaf
            name = names.get(leaf, here)
            if leaf in names or here not in away:
                yield Place(name, path, leaf, parameter)


def lent(model: nn.Module) -> set[str]:
    """Names of the parameters that other modules than their own use."""
    return {name for module in model.modules() for name in borrowed(module).values()}


def borrowed(module: nn.Module) -> Mapping[str, str]:
    """The module's attributes that are parameters with a place, and a name, elsewhere."""
    found = getattr(module, "borrowed", None)
    return found if isinstance(found, Mapping) else {}


def modules_of(model: nn.Module) -> dict[str, str]:
    """The module that uses each parameter first, by the parameter's name."""
    found: dict[str, str] = {}
    for place in places(model):
        found.setdefault(place.name, place.module)
    return found
