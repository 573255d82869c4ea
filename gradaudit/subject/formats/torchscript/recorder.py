"""What a module of a TorchScript file does, found out by running its code on stand-ins."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradaudit.subject.formats.programs.leaves import Ask, Given, Leaf, Made, Own
from gradaudit.subject.formats.programs.own_layers import own_layer
from gradaudit.subject.formats.programs.own_recurrent import order_of
from gradaudit.subject.formats.torchscript.interpreter import Interpreter
from gradaudit.subject.formats.torchscript.modules import Scripted, tensors_of
from gradaudit.subject.formats.torchscript.operators import Raised

_QUERIES = frozenset(
    [
        "dim",
        "size",
        "len",
        "numel",
        "is_floating_point",
        "is_complex",
        "ops.prim.dtype",
        "ops.prim.device",
        "ops.prim.NumToTensor",
        "ops.prim.layout",
        "ops.prim.is_nested",
        "ops.prim.shape",
    ]
)
_MAKING = frozenset({"zeros", "new_zeros"})
_RAISING = ("ops.prim.RaiseException", "torch.warn", "ops.aten.warn")


class Unknown:
    """A number that depends on the input."""


class _Undecided(Exception):
    pass


def standing_in(module: Scripted) -> tuple[nn.Module, Any, tuple[int, ...]] | None:
    """The layer of torch's own that does what ``module`` does, what of its outcome is given,

    and the order in which it takes its inputs, where that is another.
    """
    function = module.script.methods.get("forward") or module.script.methods.get("forward__0")
    if function is None or any(True for _ in module.children()):
        return None
    recorder = _Recorder(module)
    spec = function.node.args
    wanted = max(len(spec.args) - len(spec.defaults) - 1, 1)
    inputs: list[Any] = [module, *(Given(number) for number in range(wanted))]
    try:
        made = recorder.run(function, inputs, {})
    except (_Undecided, Raised, TypeError, ValueError, KeyError, AttributeError, IndexError):
        return None
    outcomes = tuple(pytree.tree_leaves(made))
    if not all(isinstance(each, Made | Given) for each in outcomes):
        return None
    leaf = Leaf(module.script.kind, tuple(recorder.asks), outcomes, recorder.tensors)
    layer = own_layer(leaf)
    if layer is None:
        return None
    if not isinstance(layer, nn.RNNBase):
        return layer, None, ()
    return layer, pytree.tree_map(lambda each: each.part or 0, made), order_of(leaf)


class _Recorder(Interpreter):
    """Runs one module's forward; operators on the input are written down, not run."""

    def __init__(self, module: Scripted) -> None:
        super().__init__(module.code, module.constants)
        self.module = module
        self.tensors = {k: v for k, v in tensors_of(module).items() if k in _places(module)}
        self.asks: list[Ask] = []
        self._own = {id(tensor): Own(name) for name, tensor in self.tensors.items()}
        self._sides = _dimensions(module.script.kind)

    def attribute(self, owner: Any, name: str) -> Any:
        if owner is not self.module:
            raise _Undecided
        if name == "training":
            return False
        for held in (owner._parameters, owner._buffers, owner.values, owner.script.constants):
            if name in held:
                return self._known(held[name])
        raise _Undecided

    def _known(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._own.get(id(value), value)
        if isinstance(value, list):
            return [self._known(each) for each in value]
        return value

    def set_attribute(self, owner: Any, name: str, value: Any) -> None:
        raise _Undecided

    def method(self, owner: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if owner is not self.module or name not in owner.script.methods:
            raise _Undecided
        return self.run(owner.script.methods[name], [owner, *args], kwargs)

    def operator(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        short = name.removeprefix("ops.aten.")
        found = _stand_ins([args, kwargs])
        symbols = [each for each in found if not isinstance(each, Unknown)]
        if short == "dim" and args == [Given()] and self._sides:
            return self._sides
        if short.startswith("__is") and found:
            return self._identity(short, args)
        if (short in _QUERIES and found) or (found and not symbols and short not in _MAKING):
            return Unknown()
        if not found and short not in _MAKING:
            return super().operator(name, args, kwargs)
        if name.startswith("ops.prim."):
            raise _Undecided
        self.asks.append(Ask(short, tuple(args), kwargs))
        return Made(len(self.asks) - 1)

    def _identity(self, name: str, args: list[Any]) -> bool:
        """``x is None`` of a tensor that is there."""
        if None not in args or any(isinstance(each, Unknown) for each in args):
            raise _Undecided
        return name == "__isnot__"

    def unpacked(self, value: Any, count: int) -> Any:
        if isinstance(value, Made) and value.part is None:
            return [Made(value.number, part) for part in range(count)]
        if isinstance(value, list | tuple):
            return value
        raise _Undecided

    def item(self, value: Any, key: Any) -> Any:
        if isinstance(value, Unknown):
            return Unknown()
        if isinstance(value, Made) and value.part is None and isinstance(key, int):
            return Made(value.number, key)
        if _stand_ins([key]) or isinstance(value, Given | Own | Made):
            raise _Undecided
        return value[key]

    def cast(self, name: str, value: Any) -> Any:
        return Unknown() if _stand_ins([value]) else super().cast(name, value)

    def range(self, args: list[Any]) -> Any:
        if _stand_ins(args):
            raise _Undecided
        return super().range(args)

    def truth(self, value: Any, node: ast.If | ast.While) -> bool:
        if not _stand_ins([value]):
            return bool(value)
        if isinstance(node, ast.If) and _only_raises(node.body):
            return False
        if isinstance(node, ast.If) and _only_raises(node.orelse):
            return True
        raise _Undecided


def _only_raises(body: list[ast.stmt]) -> bool:
    """Whether a branch does nothing but raise an error."""
    text = ast.unparse(body[-1]) if body else ""
    return any(text.startswith(name) for name in _RAISING)


def _stand_ins(values: list[Any]) -> list[Any]:
    leaves = pytree.tree_leaves(values)
    return [each for each in leaves if isinstance(each, Given | Own | Made | Unknown)]


def _places(module: Scripted) -> set[str]:
    return {*module.script.parameters, *module.script.buffers}


def _dimensions(kind: str) -> int | None:
    """Of a layer's input, where the class fixes them."""
    known: Mapping[str, int] = {"LSTM": 3, "GRU": 3, "RNN": 3, "BatchNorm2d": 4, "BatchNorm3d": 5}
    return known.get(kind)
