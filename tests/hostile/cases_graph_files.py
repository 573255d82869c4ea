"""Exported programs and TorchScript files made to do harm."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.hostile.harness import Case, Place
from tests.subject.graph_files import changed, record, unwarned, written

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
INPUTS = "data/sample_inputs/model.pt"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x))


class Touch:
    """Unpickled, it makes the canary file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return exec, (_touching(self.canary),)


def _touching(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


def exported(folder: Path) -> Path:
    torch.manual_seed(0)
    rows = torch.export.Dim("rows", min=2, max=64)
    path = folder / "model.pt2"
    with unwarned():
        program = torch.export.export(Net(), (torch.zeros(4, 4),), dynamic_shapes=({0: rows},))
        torch.export.save(program, path)
    return path


def scripted(folder: Path) -> Path:
    torch.manual_seed(0)
    return written(Net(), (), "scripted", folder)


def _edited(old: str, new: str, name: str = MODEL) -> Callable[[Path, Path], Path]:
    """The archive with text of a record replaced; CANARY stands for code that makes the file."""

    def make(path: Path, canary: Path) -> Path:
        text = record(path, name).decode()
        # as text inside a JSON string
        code = json.dumps(new.replace("CANARY", f"exec({_touching(canary)!r})"))[1:-1]
        after = re.sub(old, lambda _: code, text, count=1)
        assert after != text
        return changed(path, {name: after.encode()})

    return make


def field(keys: tuple[Any, ...], value: Any, name: str = MODEL) -> Callable[[Path, Path], Path]:
    """The archive with a field of a JSON record set."""

    def make(path: Path, canary: Path) -> Path:
        whole = json.loads(record(path, name))
        at = whole
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = json.loads(json.dumps(value).replace("CANARY", _touching(canary)))
        return changed(path, {name: json.dumps(whole).encode()})

    return make


def _pickled(name: str) -> Callable[[Path, Path], Path]:
    def make(path: Path, canary: Path) -> Path:
        inner = path.with_suffix(".inner")
        torch.save(Touch(canary), inner)
        return changed(path, {name: inner.read_bytes()})

    return make


def _stored_as(kind: str, name: str) -> Callable[[Path, Path], Path]:
    """A tensor declared as a pickled object beside it."""

    def make(path: Path, canary: Path) -> Path:
        config = CONSTANTS if kind == "constants" else WEIGHTS
        whole = json.loads(record(path, config))
        whole["config"]["layer.weight"] = {
            "path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None,
        }  # fmt: skip
        content = pickle.dumps(Touch(canary))
        return changed(path, {config: json.dumps(whole).encode(), f"data/{kind}/{name}": content})

    return make


def _recorded(name: str, content: bytes) -> Callable[[Path, Path], Path]:
    return lambda path, _canary: changed(path, {name: content})


META = ("config", "layer.weight", "tensor_meta")
NODE = ("graph_module", "graph", "nodes", 0)
STACK = (*NODE, "metadata", "nn_module_stack")
ENUM = '[1, {"type": "builtins.dict", "context": "{\\"__enum__\\": 1, \\"fqn\\": \\"os:x\\"}"}]'
IN_SPEC = ("graph_module", "module_call_graph", 0, "signature", "in_spec")
EXPORTED: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "example inputs that unpickle": (_pickled(INPUTS), "would run code"),
    "a weight that unpickles": (_stored_as("weights", "weight_0"), "pickled object"),
    "a custom object": (_stored_as("constants", "custom_obj_0"), "pickled object"),
    "an opaque object": (_stored_as("constants", "opaque_obj_0"), "pickled object"),
    "a size that is code": (_edited(r"Symbol\('s\d+', [^)]*\)", "CANARY"), "the size"),
    "a size that multiplies out for ever": (
        _edited(r"Symbol\('s\d+', [^)]*\)", f"({'+'.join(f's{n}' for n in range(20))})**16"),
        "the size",
    ),
    "a size that compares for ever": (
        _edited(r"Symbol\('s\d+', [^)]*\)", f"Max({','.join(f's{n}' for n in range(250))})"),
        "the size",
    ),
    "a size that is a giant": (_edited(r"Symbol\('s\d+', [^)]*\)", "9**9**9"), "the size"),
    "a symbol of a giant number": (field(("range_constraints",), {"u999999999": {}}), "symbol"),
    "a name that is code": (_edited('"name": "x"', "x"), "cannot be read|not JSON"),
    "a node's name that is code": (field((*NODE, "name"), "x):\n    CANARY\n    ("), "the name"),
    "a name in two lines": (
        field(("graph_module", "graph", "inputs", 0, "as_tensor", "name"), "x=CANARY"),
        "the name",
    ),
    "a file read": (field((*NODE, "target"), "torch.ops.aten.from_file.default"), "operator"),
    "a file written": (field((*NODE, "target"), "torch.save"), "operator"),
    "an attribute by name": (field((*NODE, "target"), "_operator.attrgetter"), "operator"),
    "an unknown overload": (field((*NODE, "target"), "torch.ops.aten.relu.evil"), "operator"),
    "a library of operators": (field((*NODE, "target"), "torch.ops.evil.run.default"), "operator"),
    "an extension": (field((*NODE, "target"), "#evil:run"), "operator"),
    "an operator as an argument": (
        field((*NODE, "inputs", 0, "arg"), {"as_operator": "torch.hub.load"}),
        "operator",
    ),
    "an enum to import": (field(IN_SPEC, ENUM), "container"),
    "a class to look up": (
        field(IN_SPEC, '[1, {"type": "os.x", "context": null, "children_spec": []}]'),
        "container",
    ),
    "a stack that ends a string": (field(STACK, 'L,"),CANARY,torch.nn.Linear'), "module"),
    "a weight whose name is code": (
        _edited("layer.weight", '", CANARY, "', WEIGHTS),
        "the name",
    ),
    "a tensor of 10^12 elements": (
        field((*META, "sizes"), [{"as_int": 10**6}, {"as_int": 10**6}], WEIGHTS),
        "beyond what is stored",
    ),
    "an expanded tensor": (
        field(
            META,
            {
                "dtype": 7, "layout": 7, "requires_grad": True, "storage_offset": {"as_int": 0},
                "device": {"type": "cpu", "index": None},
                "sizes": [{"as_int": 10**6}] * 2, "strides": [{"as_int": 0}] * 2,
            },
            WEIGHTS,
        ),
        "repeats stored values",
    ),
    "a negative stride": (
        field((*META, "strides"), [{"as_int": -4}, {"as_int": 1}], WEIGHTS),
        "beyond what is stored",
    ),
    "an offset": (field((*META, "storage_offset"), {"as_int": 1}, WEIGHTS), "beyond what"),
    "an unknown type": (field((*META, "dtype"), 99, WEIGHTS), "no tensor of known type"),
    "machine code": (_recorded("data/aotinductor/model/x.so", b"\x7fELF"), "machine code"),
    "JSON too deep": (_recorded(MODEL, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"), "deep"),
    "JSON far too deep": (_recorded(MODEL, b'{"a":' + b"[" * 99999), "deep"),
    "no JSON": (_recorded(MODEL, b"{"), "not JSON"),
    "two programs": (_recorded("models/other.json", b"{}"), "programs"),
}  # fmt: skip


def code_of(path: Path, cls: str) -> str:
    """The record that defines a class; torch numbers those of one name as it meets them."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py") and f"class {cls}(Module)" in archive.read(name).decode():
                return name.partition("/")[2]
    raise AssertionError(cls)


def _code(text: str) -> Callable[[Path, Path], Path]:
    """The net's forward made to do something else first."""

    def make(path: Path, canary: Path) -> Path:
        name = code_of(path, "Net")
        source = record(path, name).decode()
        head, mark, tail = source.partition("-> Tensor:\n")
        assert mark
        body = "".join(f"    {line}\n" for line in text.format(canary=canary).splitlines())
        return changed(path, {name: f"{head}{mark}{body}{tail}".encode()})

    return make


def _objects(name: str) -> Callable[[Path, Path], Path]:
    return lambda path, canary: changed(path, {name: pickle.dumps(Touch(canary), protocol=2)})


def _without_shape(path: Path, canary: Path) -> Path:
    content = record(path, "data.pkl")
    # the weight's (3, 4) and its strides, as two-byte numbers, made as large as these get
    after = content.replace(b"K\x03K\x04", b"M\xff\xffM\xff\xff", 1)
    assert after != content
    return changed(path, {"data.pkl": after})


SCRIPTED: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "objects that unpickle": (_objects("data.pkl"), "beyond what TorchScript writes"),
    "constants that unpickle": (_objects("constants.pkl"), "beyond what TorchScript writes"),
    "a file read": (_code('y = torch.from_file("{canary}", True, 8)'), "torch.from_file"),
    "a file saved": (_code('y = torch.save(x, "{canary}")'), "torch.save"),
    "a file saved otherwise": (_code('y = ops.aten.save(x, "{canary}")'), "ops.aten.save"),
    "a library's operator": (_code("y = ops.evil.run(x)"), "ops.evil.run"),
    "a class of a library": (_code("y = torch.classes.evil.Run(x)"), "torch.classes.evil.Run"),
    "an import": (_code('import os\nos.system("touch {canary}")'), "Import"),
    "a built-in": (_code('y = eval("1")'), "eval"),
    "a built-in by another name": (_code('y = __import__("os")'), "__import__"),
    "a lambda": (_code("y = lambda z: z"), "Lambda"),
    "a comprehension": (_code("y = [z for z in [1]]"), "Comp"),
    "an operator's insides": (_code("y = torch.add.__globals__"), "__globals__"),
    "a module's insides": (_code("y = self.__dict__"), "__dict__"),
    "a module's insides by name": (_code('y = getattr(self, "__class__")'), "__class__"),
    "a module's own method": (_code("y = (self).register_forward_hook(x)"), "register_forward"),
    "a seed": (_code("y = torch.manual_seed(0)"), "torch.manual_seed"),
    "an endless loop": (_code("while True:\n  y = 1"), "loops more than"),
    "endless printing": (_code("while True:\n  print(1)"), "loops more than"),
    "itself": (_code("y = (self).forward(x, )"), "itself|recursion|RecursionError"),
    "a list of 10^15": (_code("y = torch.mul([1], 1000000000000000)"), "list of"),
    "a number without end": (
        _code("y = 3\nfor i in range(100000):\n  y = torch.mul(y, y)"),
        "beyond 64 bits",
    ),
    "a list that doubles": (
        _code("y = [1]\nfor i in range(60):\n  y = torch.add(y, y)"),
        "list of",
    ),
    "a list extended by itself": (
        _code("y = [1]\nfor i in range(60):\n  torch.extend(y, y)"),
        "list of",
    ),
    "lists of lists of lists": (
        _code("y = [1]\nfor i in range(60):\n  y = [y, y]\nz = torch.str(y)\nw = torch.eq(y, z)"),
        "list of",
    ),
    "a tensor of lists of lists": (
        _code("y = [1]\nfor i in range(60):\n  y = [y, y]\nz = torch.tensor(y)"),
        "list of",
    ),
    "a text to format": (_code('y = torch.format("{{:>999999999999}}", 1)\nz = y.a'), "has no"),
    "code a thousand deep": (_code("y = " + "(" * 1000 + "1" + ")" * 1000), "cannot be read|deep"),
    "a large shape": (_without_shape, "declares a tensor"),
    "code that is no code": (
        lambda path, _: changed(path, {code_of(path, "Net"): b"\x00\xff"}),
        "cannot be read",
    ),
    "a class that is not there": (
        lambda path, _: changed(path, {code_of(path, "Linear"): None}),
        "does not define",
    ),
    "no objects": (lambda path, _: changed(path, {"data.pkl": None}), "lacks data.pkl"),
}


def cases() -> tuple[Case, ...]:
    """Each by its family; TorchScript brings no sample along."""
    found = [
        Case(f"pt2: {name}", _at(exported, make), says) for name, (make, says) in EXPORTED.items()
    ]
    for name, (make, says) in SCRIPTED.items():
        given = _at(scripted, make)
        found.append(
            Case(
                f"torchscript: {name}",
                lambda place, given=given: (given(place), "--input", "float32[4,4]"),
                says,
            )
        )
    return tuple(found)


def _at(
    sound: Callable[[Path], Path], make: Callable[[Path, Path], Path]
) -> Callable[[Place], Path]:
    return lambda place: make(sound(place.files), place.canary)
