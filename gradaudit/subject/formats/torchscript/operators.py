"""The operators that TorchScript code may ask for: torch's own on tensors, Python's on the rest."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gradaudit.subject.formats.programs.aten_names import NAMES
from gradaudit.subject.formats.recurrent_sizes import checked
from gradaudit.telling import quoted

_UNMATCHED = "failed to match any schema"
_MOST = 1 << 24  # items of a list that code makes
# c10::ScalarType, by which code names types
CODES: Mapping[torch.dtype, int] = {
    torch.uint8: 0,
    torch.int8: 1,
    torch.int16: 2,
    torch.int32: 3,
    torch.int64: 4,
    torch.float16: 5,
    torch.float32: 6,
    torch.float64: 7,
    torch.complex32: 8,
    torch.complex64: 9,
    torch.complex128: 10,
    torch.bool: 11,
    torch.bfloat16: 15,
}
DTYPES: Mapping[int, torch.dtype] = {code: dtype for dtype, code in CODES.items()}


class Raised(RuntimeError):
    """What the code raises by itself."""


def _limited(count: int) -> int:
    if count > _MOST:
        raise Raised(f"the code asks for a list of {count:,} items")
    return count


def _whole(number: Any) -> Any:
    """TorchScript's whole numbers have 64 bits; Python's grow for as long as code doubles them."""
    if isinstance(number, int) and abs(number) >> 64:
        raise Raised("the code computes a number beyond 64 bits")
    return number


def _times(a: Any, b: Any) -> Any:
    if isinstance(a, list | str) and isinstance(b, int):
        _limited(len(a) * max(b, 0))
    return _whole(a * b)


def _plus(a: Any, b: Any) -> Any:
    if isinstance(a, list | str) and isinstance(b, list | str):
        _limited(len(a) + len(b))
    return _whole(a + b)


def _extend(items: Any, more: Any) -> None:
    _limited(len(items) + len(more))
    items.extend(more)


def _power(a: Any, b: Any) -> Any:
    return pow(float(a), b) if isinstance(b, int) and abs(b) > 64 else _whole(pow(a, b))


def _weighed(value: Any) -> Any:
    """``value``, if all that is nested in it is few, counted as often as it is met."""
    left, seen = [value], 0
    while left:
        item = left.pop()
        if isinstance(item, list | tuple):
            seen = _limited(seen + len(item))
            left.extend(item)
    return value


def _text(value: Any) -> str:
    """Of a number, a text or a tensor; what is nested may be as text larger than any memory."""
    return type(value).__name__ if isinstance(value, list | tuple | dict) else str(value)[:1000]


def _join(glue: str, items: Any) -> str:
    _limited(sum(map(len, items)) + len(glue) * len(items))
    return glue.join(items)


def _format(text: str, *values: Any) -> str:
    """``{}`` filled in turn; no other formatting, as in TorchScript."""
    pieces = text.split("{}")
    made = [pieces[0]]
    for i, piece in enumerate(pieces[1:]):
        made += [_text(values[i]) if i < len(values) else "{}", piece]
    return "".join(made)


def _slice(value: Any, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return value[slice(start, end, step)]


def _set(container: Any, key: Any, value: Any) -> Any:
    container[key] = value
    return container


def _pop(container: Any, *key: Any) -> Any:
    return container.pop(*key)


# without a tensor among what they are given
PLAIN: Mapping[str, Callable[..., Any]] = {
    "add": _plus,
    "sub": lambda a, b: _whole(a - b),
    "mul": _times,
    "div": operator.truediv,
    "floordiv": operator.floordiv,
    "remainder": operator.mod,
    "mod": operator.mod,
    "neg": operator.neg,
    "pow": _power,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": lambda a, b: _weighed(a) == _weighed(b),
    "ne": lambda a, b: _weighed(a) != _weighed(b),
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
    "__not__": operator.not_,
    "__getitem__": operator.getitem,
    "_set_item": _set,
    "append": lambda items, item: items.append(item) or items,
    "extend": _extend,
    "insert": lambda items, at, item: items.insert(at, item),
    "pop": _pop,
    "clear": lambda items: items.clear(),
    "reverse": lambda items: items.reverse(),
    "copy": lambda items: items.copy(),
    "list": lambda items: list(items) if _limited(len(items)) else [],
    "keys": lambda items: list(items.keys()),
    "values": lambda items: list(items.values()),
    "items": lambda items: list(items.items()),
    "get": lambda items, key, default=None: items.get(key, default),
    "update": lambda items, more: items.update(more),
    "Delete": lambda items, key: items.pop(key),
    "sorted": sorted,
    "slice": _slice,
    "format": _format,
    "str": _text,
    "join": _join,
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "startswith": lambda text, head: text.startswith(head),
    "endswith": lambda text, tail: text.endswith(tail),
    "strip": lambda text: text.strip(),
    "split": lambda text, by=None, most=-1: text.split(by, most),
    "sum": sum,
    "any": any,
    "all": all,
    "max": max,
    "min": min,
}
# whatever they are given
EITHER: Mapping[str, Callable[..., Any]] = {
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
    "__contains__": lambda items, item: item in _weighed(items),
    "len": len,
    "append": PLAIN["append"],
    "extend": PLAIN["extend"],
    "insert": PLAIN["insert"],
    "_set_item": _set,
    "format": _format,
    "get": PLAIN["get"],
    "warn": lambda *_, **__: None,
    "is_grad_enabled": torch.is_grad_enabled,
    "is_scripting": lambda: True,
    "is_autocast_enabled": lambda *_: False,
    "is_autocast_cpu_enabled": lambda *_: False,
    "has_torch_function": lambda *_: False,
    "set_grad_enabled": torch.set_grad_enabled,  # put back by the interpreter
    "cpu": lambda value: value.cpu(),
    "__derive_index": lambda number, start, step: start + number * step,
    "__range_length": lambda start, end, step: len(range(start, end, step)),
    "IntImplicit": int,
    "FloatImplicit": float,
    "ScalarImplicit": lambda value: value.item(),
    "device": torch.device,
    "tensor": lambda data, dtype=None, device=None, requires_grad=False: torch.tensor(
        _weighed(data), dtype=DTYPES[dtype] if isinstance(dtype, int) else dtype, device=device
    ),
    "as_tensor": lambda data, dtype=None, device=None: torch.as_tensor(
        _weighed(data), dtype=DTYPES[dtype] if isinstance(dtype, int) else dtype, device=device
    ),
    "size": lambda value, *dim: list(value.shape) if not dim else value.shape[dim[0]],
}
_SIGNS = ("is_cuda", "is_cpu", "is_nested", "is_sparse", "is_quantized", "is_meta", "is_mps",
          "is_mkldnn", "is_xla", "requires_grad")  # fmt: skip
PRIM: Mapping[str, Callable[..., Any]] = {
    "dtype": lambda value: CODES[value.dtype],
    "device": lambda value: value.device,
    "layout": lambda value: None,
    "data": lambda value: value.detach(),
    "shape": lambda value: list(value.shape),
    "itemsize": lambda value: value.itemsize,
    "type": lambda device: device.type,
    "index": lambda device: device.index,
    "NumToTensor": torch.tensor,
    "min": min,
    "max": max,
    "abs": abs,
    "rangelist": lambda count: list(range(_limited(count))),
    "unchecked_unwrap_optional": lambda value: value,
    "ModuleContainerIndex": lambda items, key: items[key],
    **{name: lambda value, name=name: bool(getattr(value, name)) for name in _SIGNS},
}


def listed(name: str) -> bool:
    """Whether ``torch.name`` or ``ops.prim.name`` is on the list; ``name`` without ``torch.``."""
    if name.startswith("ops.prim."):
        return name.removeprefix("ops.prim.") in PRIM or name == "ops.prim.RaiseException"
    name = name.removeprefix("ops.aten.")
    return name in NAMES or name in PLAIN or name in EITHER


def called(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The outcome of a listed operator."""
    if name.startswith("ops.prim."):
        return _prim(name.removeprefix("ops.prim."), args, kwargs)
    name = name.removeprefix("ops.aten.")
    if name in EITHER:
        return EITHER[name](*args, **kwargs)
    if name in PLAIN and not _has_tensor(args, deep=name in ("max", "min")):
        return PLAIN[name](*args, **kwargs)
    if name not in NAMES:
        raise Raised(f"torch.{name} is given what it does not take")
    packet = getattr(torch.ops.aten, name)
    try:
        return checked(name, packet)(*args, **kwargs)
    except RuntimeError as error:
        if _UNMATCHED not in str(error):
            raise
        return _by_schema(packet, args, kwargs)


def _by_schema(packet: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """With tensors of one number as numbers where these are wanted, as TorchScript takes them."""
    for overload in packet.overloads():
        taken = getattr(packet, overload)._schema.arguments
        types = {argument.name: str(argument.type) for argument in taken}
        fitting = [_number(a, str(t.type)) for a, t in zip(args, taken, strict=False)]
        named = {key: _number(each, types.get(key, "")) for key, each in kwargs.items()}
        try:
            return packet(*fitting, **named)
        except RuntimeError as error:
            if _UNMATCHED not in str(error):
                raise
    raise Raised(f"torch.{packet.__name__} is given what it does not take")


def _number(value: Any, kind: str) -> Any:
    if isinstance(value, list) and kind in ("List[int]", "List[float]"):
        return [_number(each, kind[5:-1]) for each in value]
    wanted = kind.removeprefix("Optional[").removesuffix("]") in ("int", "float", "number", "bool")
    return value.item() if wanted and isinstance(value, Tensor) and value.dim() == 0 else value


def _has_tensor(args: list[Any], *, deep: bool) -> bool:
    return any(
        isinstance(arg, Tensor)
        or (deep and isinstance(arg, list) and any(isinstance(each, Tensor) for each in arg))
        for arg in args
    )


def _prim(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if name == "RaiseException":
        raise Raised(quoted(args[0], 200) if args else "the code raises")
    return PRIM[name](*args, **kwargs)
