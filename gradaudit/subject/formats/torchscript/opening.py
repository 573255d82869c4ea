"""From a TorchScript file to a module that can be hooked, trained, copied and saved."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import torch

from gradaudit.errors import GradauditError, RefusedFile, UnreadableFile
from gradaudit.subject.formats.loaded import Loaded
from gradaudit.subject.formats.programs.stored_records import Records, damaged, stored_records
from gradaudit.subject.formats.torchscript.building import Builder, promoted
from gradaudit.subject.formats.torchscript.compiled import load_compiled
from gradaudit.subject.formats.torchscript.modules import Scripted, methods_of
from gradaudit.subject.formats.torchscript.source import Code, dotted, parsed
from gradaudit.subject.formats.torchscript.unpickling import Stored, Unpickler
from gradaudit.telling import told

_CODE_LIMIT = 1 << 24


def load_torchscript(path: Path, *, trust: bool, device: str = "cpu") -> Loaded:
    """The file's modules, run by this package's interpreter.

    Raises ``RefusedFile`` naming what is beyond the list, ``UnreadableFile`` for a damaged file.
    With ``trust``, a file beyond the list is left to torch's own runtime.
    """
    try:
        return _interpreted(path)
    except RefusedFile:
        if not trust:
            raise
        return load_compiled(path, device)


def _interpreted(path: Path) -> Loaded:
    try:
        with stored_records(path) as records:
            code = parsed(code_of(records), version_of(records))
            stored, constants = objects_of(records)
        return _loaded(path, code, stored, constants)
    except RefusedFile as error:
        raise RefusedFile(
            f"{path.name} is not opened unseen: {error.what}",
            expected=error.expected, found=error.found, next_step=error.next_step,
        ) from None  # fmt: skip
    except RecursionError as error:
        raise damaged(path, error) from None


def code_of(records: Records) -> dict[str, bytes]:
    """The file's code, by path below ``code/``."""
    return {
        name.removeprefix("code/"): records.read(name, _CODE_LIMIT)
        for name in records.below("code/")
        if name.endswith(".py")
    }


def version_of(records: Records) -> int:
    """The version of torch's operators that the code was written for; 0 where it is not said."""
    text = records.read("version", 100) if "version" in records.entries else b""
    return int(text) if text.strip().isdigit() else 0


def objects_of(records: Records) -> tuple[Any, dict[str, Any]]:
    """The root object, and the constants that code names ``CONSTANTS.c0`` and so on."""
    root = _unpickled(records, "data.pkl", "data/")
    constants: Any = ()
    if "constants.pkl" in records.entries:
        constants = _unpickled(records, "constants.pkl", "constants/")
    if not isinstance(constants, tuple | list):
        raise RefusedFile("its constants are no list")
    return root, {f"c{number}": value for number, value in enumerate(constants)}


def _unpickled(records: Records, name: str, folder: str) -> Any:
    if name not in records.entries:
        raise UnreadableFile(f"the TorchScript archive lacks {name}")
    try:
        return Unpickler(
            records.read(name),
            lambda key: records.read(f"{folder}{key}"),
            lambda key: records.size(f"{folder}{key}"),
        ).load()
    except GradauditError:
        raise
    except Exception as error:  # a pickle can make `pickle` raise anything
        raise UnreadableFile(
            f"{name} in the TorchScript archive is damaged", found=told(error)
        ) from None


def _loaded(path: Path, code: Code, stored: Any, constants: dict[str, Any]) -> Loaded:
    if not isinstance(stored, Stored):
        raise UnreadableFile(f"{path.name} holds no module", found=type(stored).__name__)
    builder = Builder(code, constants)
    model = builder.module(stored)
    notes = [
        f"A TorchScript file, deprecated by PyTorch; its code was run by gradaudit's own "
        f"interpreter, with {builder.layers} of torch's own layers found in it again."
    ]
    if next(model.parameters(), None) is None and isinstance(model, Scripted):
        weights = promoted(constants, _used_as_weights(code))
        for name, weight in weights.items():
            model.register_parameter(name, weight)
        constants.update(weights)
        if weights:
            notes.append(
                "The file is frozen: its weights are constants of its code, which are measured and "
                "trained as parameters of the root, by the names that code has for them."
            )
    return Loaded("torchscript", model=model, notes=tuple(notes))


_WEIGHTS = ("weight", "bias")


def _used_as_weights(code: Code) -> set[str]:
    """Constants that an operator is given as its weight or bias."""
    used: set[str] = set()
    for function in methods_of(code).values():
        for node in ast.walk(function.node):
            if isinstance(node, ast.Call):
                used |= _weights_given(node)
    return used


def _weights_given(node: ast.Call) -> set[str]:
    packet = getattr(torch.ops.aten, dotted(node.func).removeprefix("torch."), None)
    found: set[str] = set()
    if packet is None:
        return found
    for schema in torch._C._jit_get_schemas_for_operator(packet._qualified_op_name):
        for argument, value in zip(schema.arguments, node.args, strict=False):
            name = dotted(value)
            if argument.name in _WEIGHTS and name.startswith("CONSTANTS."):
                found.add(name.removeprefix("CONSTANTS."))
    return found
