"""From the objects of a TorchScript file to modules, torch's own layers among them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gradaudit.errors import RefusedFile
from gradaudit.subject.formats.next_steps import IF_YOURS
from gradaudit.subject.formats.torchscript.attention import attention_layer
from gradaudit.subject.formats.torchscript.modules import Plain, Scripted, Standing
from gradaudit.subject.formats.torchscript.recorder import standing_in
from gradaudit.subject.formats.torchscript.source import Code, ScriptClass
from gradaudit.subject.formats.torchscript.unpickling import Stored
from gradaudit.telling import quoted

_LAYERS = "torch.nn.modules."
_DEEPEST = 200
_NAME = re.compile(r"[\w:/+ @-]+", re.ASCII)  # keys of a ModuleDict are names too


class Builder:
    """Makes modules of stored objects, each once."""

    def __init__(self, code: Code, constants: dict[str, Any]) -> None:
        self.code, self.constants = code, constants
        self.layers = 0
        self._made: dict[int, nn.Module] = {}
        self._open: set[int] = set()

    def module(self, stored: Stored, depth: int = 0) -> nn.Module:
        """The module that ``stored`` is. Raises ``RefusedFile`` for a class the file lacks."""
        if id(stored) in self._open:
            raise RefusedFile("it holds a module that holds itself")
        if id(stored) in self._made:
            return self._made[id(stored)]
        cls = self.code.classes.get(stored.kind)
        if cls is None or cls.base != "Module" or depth > _DEEPEST:
            raise RefusedFile(
                f"it holds an object of {quoted(stored.kind)}, which its code does not define",
                next_step=IF_YOURS,
            )
        module = self._empty(cls)
        self._open.add(id(stored))
        for name, value in stored.state.items():
            self._set(module, cls, str(name), value, depth)
        self._open.remove(id(stored))
        layer = self._layer(module)
        self._made[id(stored)] = layer
        return layer

    def _empty(self, cls: ScriptClass) -> Scripted:
        name = cls.kind if cls.kind.isidentifier() else "Scripted"
        module: Scripted = type(name, (Scripted,), {})()
        module.__dict__.update(
            script=cls, code=self.code, values={}, constants=self.constants, original_name=cls.kind
        )
        return module

    def _set(self, module: Scripted, cls: ScriptClass, name: str, value: Any, depth: int) -> None:
        if not _NAME.fullmatch(name):
            raise RefusedFile(f"it holds an attribute named {quoted(name)}")
        if name == "training":
            module.training = bool(value)
        elif isinstance(value, Stored) and self._is_module(value):
            module._modules[name] = self.module(value, depth + 1)
        elif isinstance(value, Tensor) and name in cls.parameters:
            module._parameters[name] = _parameter(value)
        elif isinstance(value, Tensor):
            module._buffers[name] = value
            if name not in cls.buffers:
                module._non_persistent_buffers_set.add(name)
        elif name in cls.parameters:
            module._parameters[name] = None
        else:
            module.values[name] = self._plain(value)

    def _is_module(self, value: Stored) -> bool:
        cls = self.code.classes.get(value.kind)
        return cls is None or cls.base == "Module"

    def _plain(self, value: Any) -> Any:
        if isinstance(value, Stored):
            cls = self.code.classes[value.kind]
            values = {str(name): self._plain(each) for name, each in value.state.items()}
            return value.args if cls.base else Plain(cls, values)
        if isinstance(value, list | tuple):
            return type(value)(_same(each) for each in value)
        return value

    def _layer(self, module: Scripted) -> nn.Module:
        if not module.script.place.startswith(_LAYERS):
            return module
        attention = attention_layer(module)
        found = standing_in(module) if attention is None else (attention, None, ())
        if found is None:
            return module
        self.layers += 1
        layer, returns, order = found
        layer.training = module.training
        layer.__dict__["standing"] = Standing(module.script, returns, order)
        return layer


def _parameter(tensor: Tensor) -> nn.Parameter:
    """The parameter of a tensor; the same for the same one, so that tied weights stay tied."""
    known = getattr(tensor, "_parameter", None)
    if known is None:
        known = nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad)
        tensor._parameter = known  # type: ignore[attr-defined]
    return known


def _same(value: Any) -> Any:
    """In lists of weights, such as an LSTM's, the parameters themselves."""
    if isinstance(value, Tensor):
        return getattr(value, "_parameter", value)
    return value


def promoted(constants: Mapping[str, Any], used: set[str]) -> dict[str, nn.Parameter]:
    """The constants that code uses as weights, as parameters: what a frozen module trains."""
    return {
        name: nn.Parameter(value.detach().clone())
        for name, value in constants.items()
        if name in used and isinstance(value, Tensor) and value.is_floating_point()
    }
