"""The JSON of an exported program, rebuilt of checked parts.

Names go into Python source that torch makes of the graph and runs; the text of sizes is evaluated;
targets are looked up by name. So each is held against what it may be, and what is not needed to
measure (stack traces, guards, notes of passes) is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from keyword import iskeyword
from typing import Any

from gradaudit.errors import RefusedFile
from gradaudit.subject.formats.next_steps import IF_YOURS
from gradaudit.subject.formats.pt2.expressions import SYMBOL, sound_expression
from gradaudit.subject.formats.pt2.operators import listed_operator
from gradaudit.telling import quoted

_DEEPEST = 60  # nested objects; a graph in a graph takes nine
_LARGEST = 1 << 63
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PATH = re.compile(r"[\w.@:/+ -]*", re.ASCII)  # of a module or a tensor: keys of a ModuleDict too
_STACK = re.compile(r"[\w.@:/+\-,; \[\]()<>'|*=]*", re.ASCII)  # no quote that ends a string
_DIALECTS = ("TRAINING", "ATEN")
_OBJECTS = ("custom_obj", "as_custom_obj", "token")
_CONTAINERS = frozenset(
    {
        None,
        "builtins.tuple",
        "builtins.list",
        "builtins.dict",
        "collections.OrderedDict",
        "torch.fx.immutable_collections.immutable_list",
        "torch.fx.immutable_collections.immutable_dict",
    }
)


def checked_program(program: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The program without all that was not checked, its tensors on ``device``.

    Raises ``RefusedFile`` naming what it holds beyond the list.
    """
    clean = checked_part(program, device)
    clean["guards_code"] = []
    clean["verifiers"] = [each for each in _strings(program, "verifiers") if each in _DIALECTS]
    if isinstance(clean.get("graph_module"), dict):
        clean["graph_module"]["metadata"] = {}
        clean["graph_module"]["treespec_namedtuple_fields"] = {}
    for name in program.get("range_constraints") or {}:
        if not SYMBOL.fullmatch(name):
            raise _refusal("the symbol", name)
    return clean


def checked_part(part: Mapping[str, Any], device: str) -> dict[str, Any]:
    """A part of a program, such as the type and shape of a tensor. Raises ``RefusedFile``."""
    clean: dict[str, Any] = _cleaned(dict(part), device, _DEEPEST)
    return clean


def operators_of(value: Any) -> set[str]:
    """Every operator that a program names, wherever."""
    found: set[str] = set()
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            named = (item.get("target"), item.get("as_operator"))
            found |= {name for name in named if isinstance(name, str)}
            left += item.values()
        elif isinstance(item, list):
            left += item
    return found


def _strings(program: Mapping[str, Any], key: str) -> list[str]:
    found = program.get(key)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _cleaned(value: Any, device: str, depth: int) -> Any:
    if depth == 0:
        raise RefusedFile("the program is nested too deeply", expected=f"{_DEEPEST} levels at most")
    if isinstance(value, list):
        return [_cleaned(item, device, depth - 1) for item in value]
    if isinstance(value, dict):
        return {key: _field(key, item, device, depth - 1) for key, item in value.items()}
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise _refusal("the number", value)
    return value


def _field(key: str, value: Any, device: str, depth: int) -> Any:
    if key in _OBJECTS or (key == "custom_obj_values" and value):
        raise _refusal("a custom object", value)
    if key == "metadata" and isinstance(value, dict):
        return _module_stack(value)
    if key in ("device", "as_device"):
        kind, _, index = device.partition(":")
        return {"type": kind, "index": int(index) if index else None}
    check = _CHECKS.get(key)
    if check is not None and not isinstance(value, dict | list):
        if value is not None and not check[1](value):
            raise _refusal(check[0], value)
        return value
    if not _PATH.fullmatch(key):
        raise _refusal("the name", key)
    if key == "forward_arg_names" and value:
        return [_field("name", item, device, depth) for item in value]
    return _cleaned(value, device, depth)


def _module_stack(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Which module a node belongs to; all else that is noted of it is left out."""
    stack = metadata.get("nn_module_stack")
    if stack is None:
        return {}
    if not isinstance(stack, str) or not _STACK.fullmatch(stack):
        raise _refusal("a node of the module", stack)
    return {"nn_module_stack": stack}


def _is_name(value: Any) -> bool:
    if not isinstance(value, str) or iskeyword(value) or value.startswith("__"):
        return False
    return value == "" or _NAME.fullmatch(value) is not None


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and _PATH.fullmatch(value) is not None


def _is_container(value: Any) -> bool:
    """A description of nested tuples, lists and dicts, as JSON text."""
    try:
        _, tree = json.loads(value)
        return _plain_tree(tree, _DEEPEST)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        return False


def _plain_tree(tree: Any, depth: int) -> bool:
    context = tree["context"]
    keys = json.loads(context) if isinstance(context, str) else None
    plain = keys is None or (
        isinstance(keys, list) and all(isinstance(key, str | int) for key in keys)
    )
    children = tree["children_spec"]
    sound = depth > 0 and plain and tree["type"] in _CONTAINERS
    return sound and all(_plain_tree(child, depth - 1) for child in children)


def _refusal(what: str, found: Any) -> RefusedFile:
    return RefusedFile(
        f"the exported program has {what} {quoted(found)}, beyond what is opened unseen",
        next_step=IF_YOURS,
    )


_NAMED = ("the name", _is_name)
_PLACED = ("the name", _is_path)
# field -> (what it is, whether it is sound), wherever it occurs
_CHECKS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "target": ("the operator", listed_operator),
    "as_operator": ("the operator", listed_operator),
    "expr_str": ("the size", sound_expression),
    "in_spec": ("the container", _is_container),
    "out_spec": ("the container", _is_container),
    "name": _NAMED,
    "as_name": _NAMED,
    "user_input_name": _NAMED,
    "fqn": _PLACED,
    "parameter_name": _PLACED,
    "buffer_name": _PLACED,
    "tensor_constant_name": _PLACED,
}
