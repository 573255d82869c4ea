"""An exported program as modules that torch's hooks, copies and optimizers take as any other's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from gradaudit.onnx_graph.declared import Declared
from gradaudit.subject.formats.programs.own_recurrent import taken


@dataclass(frozen=True)
class Ref:
    """A value that an earlier step made, or an input."""

    name: str


@dataclass(frozen=True)
class Step:
    """One line of a graph: a function, a module of the part (by path), or one of its tensors."""

    name: str
    target: Callable[..., Any] | str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    held: bool = False  # the target is the path of a tensor, or of a graph in the graph
    picked: tuple[int, ...] = ()  # of what torch's own layer returns, what the graph goes on with
    order: tuple[int, ...] = ()  # in which the layer takes the inputs, where that is another
    bare: bool = True  # it is one value, not a tuple


@dataclass(frozen=True)
class Steps:
    """What a part computes. Never changes, so that copies of the part share it."""

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    output: Any
    last: Mapping[int, tuple[str, ...]]  # values not needed after the step of that number

    def __deepcopy__(self, memo: dict[int, Any]) -> Steps:
        return self


@dataclass(frozen=True)
class Signature:
    """How the program is called: as Python nests its inputs and outputs."""

    names: tuple[str, ...]
    inputs: pytree.TreeSpec
    output: pytree.TreeSpec

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature:
        return self


class Part(nn.Module):
    """A module of the program that was exported."""

    steps: Steps

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the steps compute of the inputs, nested as the graph returns it."""
        values = {**dict(zip(self.steps.inputs, args, strict=False)), **kwargs}
        missing = [name for name in self.steps.inputs if name not in values]
        if missing:
            raise TypeError(f"the exported module lacks the input {missing[0]!r}")
        for number, step in enumerate(self.steps.steps):
            values[step.name] = self._run(step, values)
            for name in self.steps.last.get(number, ()):
                values.pop(name, None)
        return _filled(self.steps.output, values)

    def _run(self, step: Step, values: Mapping[str, Any]) -> Any:
        if step.held:
            return _attribute(self, str(step.target))
        args = [_filled(each, values) for each in step.args]
        kwargs = {name: _filled(each, values) for name, each in step.kwargs.items()}
        if isinstance(step.target, str):
            module = self.get_submodule(step.target)
            return _picked(step, module(*taken(module, args, step.order), **kwargs))
        return step.target(*args, **kwargs)


class ExportedProgram(Part):
    """The whole program; takes its inputs as the exported module did, by place or by name."""

    signature: Signature
    declared: tuple[Declared, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the exported module returned, nested as it did."""
        flat = pytree.tree_leaves(self._bound(args, kwargs))
        if len(flat) != len(self.steps.inputs):
            raise TypeError(
                f"the exported program takes {len(self.steps.inputs)} inputs, not {len(flat)}"
            )
        return pytree.tree_unflatten(list(super().forward(*flat)), self.signature.output)

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """The inputs in the order of their places; those exported by name follow."""
        given = {**dict(zip(self.signature.names, args, strict=False)), **kwargs}
        unknown = [name for name in given if name not in self.signature.names]
        if unknown or len(args) > len(self.signature.names):
            raise TypeError(
                f"the exported program takes the inputs {', '.join(self.signature.names)}"
            )
        return tuple(given[name] for name in self.signature.names if name in given)


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, list | tuple):
        return type(value)(_filled(each, values) for each in value)
    if isinstance(value, dict):
        return {key: _filled(each, values) for key, each in value.items()}
    if isinstance(value, slice):
        return slice(*(_filled(each, values) for each in (value.start, value.stop, value.step)))
    return value


def _picked(step: Step, made: Any) -> Any:
    if not step.picked:
        return made
    flat = pytree.tree_leaves(made)
    return flat[step.picked[0]] if step.bare else tuple(flat[number] for number in step.picked)


def _attribute(module: nn.Module, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name)
    return found


# operators with a switch for training: its place among their arguments
_SWITCHES = {"aten::dropout": 2, "aten::feature_dropout": 2, "aten::batch_norm": 5}


def fixed_modes(model: nn.Module) -> set[str]:
    """Paths of the parts that compute dropout or batch norm as they did when not training."""
    found: set[str] = set()
    for path, module in model.named_modules():
        for step in module.steps.steps if isinstance(module, Part) else ():
            schema = getattr(step.target, "_schema", None)
            place = _SWITCHES.get(getattr(schema, "name", ""))
            if place is not None and step.args[place : place + 1] == (False,):
                found.add(path or type(module).__name__)
    return found
