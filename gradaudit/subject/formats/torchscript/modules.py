"""Modules of a TorchScript file as real modules, their code run by the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradaudit.subject.formats.programs.own_recurrent import taken
from gradaudit.subject.formats.torchscript.interpreter import Interpreter
from gradaudit.subject.formats.torchscript.operators import Raised
from gradaudit.subject.formats.torchscript.source import Code, ScriptClass, ScriptFunction

_PLAIN = (bool, int, float, str, list, tuple, type(None))  # settings, and an LSTM's list of weights
_TRUE_DIVISION = 4  # torch.div of integers gave integers before


@dataclass(frozen=True)
class Standing:
    """For which of the file's modules one of torch's own layers stands in.

    ``returns`` nests the numbers of those of its outcomes that the file's module gives; ``None``
    where it gives all, as the layer does.
    """

    cls: ScriptClass
    returns: Any = None
    order: tuple[int, ...] = ()  # in which the layer takes the inputs, where that is another

    def __deepcopy__(self, memo: dict[int, Any]) -> Standing:
        return self


@dataclass(eq=False)
class Plain:
    """An object of a class of the file's that is no module."""

    script: ScriptClass
    values: dict[str, Any]


class Scripted(nn.Module):
    """A module that the file defines. ``values`` are its attributes that are no tensors."""

    script: ScriptClass
    code: Code
    values: dict[str, Any]
    constants: dict[str, Any]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module's own code computes."""
        chosen = self.__dict__.pop("_chosen", None)
        function = self.script.methods.get(chosen or "forward")
        function = function or self.script.methods.get("forward__0")
        if function is None:
            raise Raised(f"{self.script.name} has no forward")
        constants = {**self.constants, **self._parameters}  # frozen weights among them
        return Running(self.code, constants).run(function, [self, *args], kwargs)


class Running(Interpreter):
    """The interpreter over real modules."""

    def attribute(self, owner: Any, name: str) -> Any:
        """An attribute that the owner's class in the file has."""
        if isinstance(owner, Scripted):
            return _of_module(owner, name)
        if isinstance(owner, Plain) and name in owner.values:
            return owner.values[name]
        standing = getattr(owner, "standing", None)
        if isinstance(standing, Standing):
            return _of_layer(owner, standing, name)
        if type(owner) is nn.Module:  # a plain holder
            return owner.get_submodule(name)
        raise Raised(f"{type(owner).__name__} has no {name!r} in the file")

    def set_attribute(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute that is there."""
        if not isinstance(owner, Scripted | Plain) or name not in owner.script.fields:
            raise Raised(f"{type(owner).__name__} has no {name!r} in the file")
        if isinstance(owner, Plain):
            owner.values[name] = value
        elif name in owner._buffers:
            owner._buffers[name] = value
        elif name in owner._parameters or name in owner._modules:
            raise Raised(f"{name!r} is set anew in a forward pass")
        else:
            owner.values[name] = value

    def new(self, cls: Any) -> Plain:
        """An object without attributes yet."""
        if not isinstance(cls, ScriptClass) or cls.base:
            raise Raised(f"an object of {cls.name}")
        return Plain(cls, {})

    def operator(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """As it was in the version of torch that wrote the file."""
        if self.code.version < _TRUE_DIVISION and name in ("div", "div_") and _integral(args):
            kwargs = {"rounding_mode": "trunc", **kwargs}
        return super().operator(name, args, kwargs)

    def method(self, owner: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A method that the owner's class in the file has; forward through the module's hooks."""
        standing = getattr(owner, "standing", None)
        own = isinstance(owner, Scripted | Plain)
        cls = owner.script if own else getattr(standing, "cls", None)
        if not isinstance(cls, ScriptClass) or name not in cls.methods:
            raise Raised(f"{type(owner).__name__} has no {name!r} in the file")
        if isinstance(owner, Plain) or not name.startswith("forward"):
            return self.run(cls.methods[name], [owner, *args], kwargs)
        if isinstance(owner, Scripted):
            owner.__dict__["_chosen"] = name
            return owner(*args, **kwargs)
        order = standing.order if isinstance(standing, Standing) else ()
        return _given(standing, owner(*taken(owner, args, order), **kwargs))


def _of_module(owner: Scripted, name: str) -> Any:
    for held in (owner._parameters, owner._buffers, owner._modules, owner.values):
        if name in held:
            return held[name]
    if name == "training":
        return owner.training
    if name in owner.script.constants:
        return owner.script.constants[name]
    raise Raised(f"{owner.script.name} has no {name!r}")


def _of_layer(owner: nn.Module, standing: Standing, name: str) -> Any:
    """What the file's class has too; of the layer's own only plain values, whatever is declared."""
    for held in (owner._parameters, owner._buffers, owner._modules):
        if name in held:
            return held[name]
    known = {**standing.cls.constants, **vars(owner)}
    declared = name in standing.cls.fields and name in known
    if not declared or not isinstance(known[name], _PLAIN):
        raise Raised(f"{standing.cls.name} has no {name!r}")
    return known[name]


def _integral(args: list[Any]) -> bool:
    """Whether a tensor is among numbers without fractions."""
    kinds = [not each.is_floating_point() for each in args if isinstance(each, Tensor)]
    return bool(kinds) and all(kinds) and not any(isinstance(each, float) for each in args)


def _given(standing: Standing | None, made: Any) -> Any:
    if standing is None or standing.returns is None:
        return made
    flat = pytree.tree_leaves(made)
    return pytree.tree_map(lambda number: flat[number], standing.returns)


def methods_of(code: Code) -> Mapping[str, ScriptFunction]:
    """Every function and method of a file, by full name."""
    found = dict(code.functions)
    for cls in code.classes.values():
        found |= {method.name: method for method in cls.methods.values()}
    return found


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers that a module holds itself."""
    return {
        **dict(module.named_parameters(recurse=False)),
        **dict(module.named_buffers(recurse=False)),
    }
