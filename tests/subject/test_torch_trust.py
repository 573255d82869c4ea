"""What a PyTorch file may ask for without trust: nothing that runs, allocates or hides."""

from __future__ import annotations

import functools
import os
import pickle
import struct
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.pickles.dry import dry_read
from gradaudit.subject.formats.pickles.holders import HOLDERS, holder_classes
from gradaudit.subject.formats.torch_files.opening import load_torch_file
from gradaudit.subject.formats.torch_files.trust import asked_for


class Call:
    """Pickled as a call of ``function``, and a state for what it gives."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        function, arguments, state = self.parts
        return (function, arguments) if state is None else self.parts


def archive(path: str, stream: bytes, *storages: bytes) -> None:
    """A file as ``torch.save`` writes it, around a pickle that it would never write."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a/data.pkl", stream)
        made.writestr("a/byteorder", "little")
        for number, held in enumerate(storages):
            made.writestr(f"a/data/{number}", held)
        made.writestr("a/version", "3\n")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


STORAGE = (
    b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x04tQ"
)
SYSTEM = text("touch exploded") + b"\x85R"
BOMBS = {
    "reduce": b"\x80\x02cposix\nsystem\n" + SYSTEM + b".",
    "old name": b"\x80\x02cnt\nsystem\n" + SYSTEM + b".",
    "inst": b"(S'touch exploded'\niposix\nsystem\n.",
    "obj": b"(cposix\nsystem\nS'touch exploded'\no.",
    "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + SYSTEM + b".",
    "odd stack global": b"\x80\x04\x8c\x02os\x8c\x0bpath.system\x93" + SYSTEM + b".",
    "frame": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93" + SYSTEM + b".",
    "new": b"\x80\x02cposix\nsystem\n" + text("touch exploded") + b"\x85\x81.",
    "second pickle in bytes": b"\x80\x02ctorch.storage\n_load_from_bytes\n"
    + name("_codecs", "encode") + text("cposix\nsystem\n(S'touch exploded'\ntR.")
    + text("latin1") + b"\x86R\x85R.",
    "eval": b"\x80\x02c__builtin__\neval\n" + text("open('exploded','w')") + b"\x85R.",
    "build": b"\x80\x02ccollections\nOrderedDict\n)R}" + text("x") + name("builtins", "exec")
    + b"sb.",
    "hidden in a plain class": b"\x80\x02cfunctools\npartial\n" + name("posix", "system")
    + b"\x85R.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_nothing_runs(line, bomb: str) -> None:
    archive("m.pt", BOMBS[bomb])
    said = line(RefusedFile, "m.pt")
    assert "(DANGEROUS)" in said
    assert said.endswith("no training code writes what is marked DANGEROUS: do not trust this file")
    assert "--trust" not in said
    with pytest.raises(RefusedFile):
        load_torch_file(Path("m.pt"), trust=False)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("stream", "found"),
    [(b"\x80\x02\x82\x01.", "unregistered extension code"),
     (b"\x80\x02" + text("x") + b"Q.", "names no storage"),
     (b"\x80\x02Px\n.", "names no storage"),
     (b"\x80\x02(" + text("storage") + b"NNNGA\0\0\0\0\0\0\0tQ.", "names no storage"),
     (b"\x80\x02" + STORAGE + b"}" + text("numel") + b"K\x01sb.", "no further state"),
     (b"\x80\x02]r\xff\xff\xff\x7f.", "holds no model"),
     (b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s.", "tuples within tuples"),
     (b"\x80\x04(" + b")" + b"2\x86" * 60 + b"\x91.", "tuples within tuples"),
     (b"\x80\x04\x8f(" + b")" + b"2\x86" * 60 + b"\x90.", "tuples within tuples"),
     (b"\x80\x04\x96" + struct.pack("<Q", 1 << 45) + b"x.", "Error"),
     (b"\x80\x02" + b"(" * 100_000 + b"t" * 99_999 + b".", "tuples within tuples"),
     (b"\x80\x02\x8b\x04\0\0\0\xff\xff\xff\xff.", "holds no model"),
     (b"\x80\x02" + name("_codecs", "encode") + text("x") + text("bz2") + b"\x86R.", "codec"),
     (b"", "EOF"), (b".", "Error"), (b"\x80\xff.", "unsupported pickle protocol")],
    ids=range(16),
)  # fmt: skip
def test_tricks_end_in_one_line_at_once(line, stream: bytes, found: str) -> None:
    archive("m.pt", stream, bytes(16))
    start = time.monotonic()
    assert found in line(UnreadableFile, "m.pt")
    assert time.monotonic() - start < 5


HUGE = (10**6, 10**6)
FLOATS = torch.ones(4)
MISUSES = {
    "a layer called": (Call(nn.Linear, *HUGE), "linear.Linear"),
    "a layer called by another": (
        Call(torch._tensor._rebuild_from_type_v2, nn.Linear, torch.Tensor, HUGE, {}),
        "linear.Linear",
    ),
    "bytes": (Call(bytearray, 10**12), "builtins.bytearray"),
    "a state that overrides": (
        Call(OrderedDict, state={"__setstate__": nn.PReLU}), "to set '__setstate__'",
    ),
    "a tensor by its state": (
        Call(torch.Tensor.__new__, torch.Tensor, state={"x": 1}), "Tensor",
    ),
    "an attribute of an object": (Call(getattr, nn.Linear, "__init__"), "Linear.__init__"),
    "an attribute of a function": (
        Call(getattr, torch.nn.functional.relu, "__globals__"), "__globals__",
    ),
    "quantized": (
        Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, HUGE, HUGE, False),
        "_rebuild_meta_tensor_no_storage",
    ),
}  # fmt: skip


@pytest.mark.parametrize("misuse", MISUSES)
def test_listed_names_in_other_uses(line, misuse: str) -> None:
    call, named = MISUSES[misuse]
    torch.save({"model": {"w": FLOATS, "x": call}}, "m.pt")
    assert named in line(RefusedFile, "m.pt")


def test_a_tensor_made_bare_and_set_by_its_state(line) -> None:
    sizes = b"(" + b"\x8a\x06\0\x10\xa5\xd4\xe8\0t" + b"(K\0t"  # 10^12 elements, stride 0
    state = b"(" + STORAGE + b"K\0" + sizes + b"t"
    archive("m.pt", b"\x80\x02ctorch\nTensor\n)\x81" + state + b"b.", bytes(16))
    assert "torch.Tensor set by its state" in line(RefusedFile, "m.pt")


@pytest.mark.parametrize(
    ("name", "value"),
    [("forward", torch.nn.functional.relu), ("named_parameters", set), ("__call__", set),
     ("in_features", "four"), ("training", 1.5),
     ("train", OrderedDict), ("_modules", {"0": 3}), ("_parameters", [1]), ("_buffers", {"x": 3})],
)  # fmt: skip
def test_modules_whose_state_says_otherwise(line, name: str, value: object) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].__dict__[name] = value
    torch.save(model, "m.pt")
    said = line(RefusedFile if name.startswith("__") else UnreadableFile, "m.pt")
    assert "is damaged" in said or "to set '__call__'" in said


@pytest.mark.parametrize("size", [-4, 0, 10**15, 3])
def test_sizes_that_are_none(opened, size: int) -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    model[0].in_features = size
    torch.save(model, "m.pt")
    assert opened("m.pt").sample.source == "none"  # nothing that could be drawn fits


def test_tensors_whose_state_says_otherwise(line) -> None:
    for name in ("numel", "is_floating_point", "shape"):
        weight = Call(
            torch._utils._rebuild_parameter_with_state, FLOATS, True, OrderedDict(), {name: set}
        )
        torch.save({"model": {"w": weight}}, "m.pt")
        text = line(UnreadableFile, "m.pt")
        assert "damaged" in text or "no model" in text


def test_attributes_of_a_dict_hide_nothing(opened) -> None:
    class Weights:
        def __reduce__(self) -> tuple[Any, ...]:
            hidden = {"items": set, "keys": set, "values": set}
            return OrderedDict, (), hidden, None, iter([("w", FLOATS)])

    weights = Weights()
    torch.save({"state_dict": weights}, "m.pt")
    assert torch.equal(opened("m.pt").weights["w"], FLOATS)
    torch.save({"state_dict": weights}, "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(opened("old.pt").weights["w"], FLOATS)


def test_numpys_own_calls_are_inert(opened) -> None:
    import numpy as np

    hostile = [
        Call(np._core.multiarray._reconstruct, np.ndarray, (10**6, 10**6), b"d"),
        Call(np._core.multiarray.scalar, np.dtype("O"), b"cos\nsystem\n."),
        Call(np._core.multiarray.scalar, np.dtype("f8"), b"123"),
    ]
    torch.save({"model": {"w": FLOATS}, "x": hostile}, "m.pt")
    assert set(opened("m.pt").weights) == {"w"}
    torch.save({"model": nn.Linear(2, 2), "x": hostile}, "m.pt")
    assert opened("m.pt").row.format == "pickled module"


class TestRefusal:
    def test_lists_all_and_marks_the_dangerous(self, line) -> None:
        class Own:
            def __reduce__(self) -> tuple[Any, ...]:
                return functools.reduce, (os.path.join, [pickle.loads, Call])

        torch.save({"model": {"w": FLOATS}, "x": Own()}, "m.pt")
        needs = line(RefusedFile, "m.pt").partition("it needs ")[2].partition(";")[0]
        assert needs == (
            "functools.reduce (DANGEROUS), pickle.loads (DANGEROUS), posixpath.join (DANGEROUS), "
            f"{__name__}.Call"
        )

    def test_hostile_names_are_quoted_and_cut(self, line) -> None:
        names = ["\x1b[31mred", "a" * 10_000, "<script>", "naïve"]
        stream = b"\x80\x04" + b"".join(
            b"\x8c\x01m" + text(each) + b"\x93" for each in names
        ) + b"."  # fmt: skip
        archive("m.pt", stream)
        said = line(RefusedFile, "m.pt")
        assert said.isprintable()
        assert "\\x1b[31mred" in said
        assert len(said) < 600

    def test_absurdly_many(self, line) -> None:
        stream = b"\x80\x04" + b"".join(name("m", f"n{i:04}") for i in range(5000)) + b"."
        archive("m.pt", stream)
        said = line(RefusedFile, "m.pt")
        assert "m.n0000, m.n0001" in said
        assert "and 4960 more" in said

    def test_standings(self) -> None:
        dry, _ = dry_read(b"\x80\x02(" + name("posix", "system") + name("mine", "Net")
                          + name("torch.nn.modules.linear", "Linear") + b"t.")  # fmt: skip
        assert [(each.name, each.standing) for each in asked_for(dry)] == [
            ("mine.Net", "unlisted"),
            ("posix.system", "dangerous"),
            ("torch.nn.modules.linear.Linear", "allowed"),
        ]


class TestTrust:
    def test_is_used_only_where_it_is_needed(self, opened, monkeypatch) -> None:
        asked: list[bool] = []
        load = torch.load
        monkeypatch.setattr(
            torch, "load", lambda *a, **k: asked.append(k["weights_only"]) or load(*a, **k)
        )
        torch.save(nn.Linear(2, 2), "m.pt")
        opened("m.pt", trust=True)
        torch.save({"model": {"w": FLOATS}}, "w.pt", _use_new_zipfile_serialization=False)
        opened("w.pt", trust=True)
        assert asked == [True, True]
        torch.save({"model": {"w": FLOATS}}, "w.pt")
        opened("w.pt", trust=True)
        assert asked == [True, True]  # tensors stay in the file: nothing is unpickled
        torch.save(nn.Linear(2, 2), "old.pt", _use_new_zipfile_serialization=False)
        opened("old.pt", trust=True)
        assert asked == [True, True, False]

    def test_other_protocols(self, opened, line) -> None:
        torch.save(nn.Linear(2, 2), "m.pt", pickle_protocol=4)
        said = line(RefusedFile, "m.pt")
        assert "protocol" in said
        assert "add --trust" in said
        assert opened("m.pt", trust=True).row.parameters == 6
        for protocol in (2, 3, 4, 5):  # weights need no code whatever the protocol
            torch.save({"model": {"w": FLOATS}}, "w.pt", pickle_protocol=protocol)
            assert torch.equal(opened("w.pt").weights["w"], FLOATS)

    def test_code_that_raises(self, write, opened, line) -> None:
        write("odd.py", "class Odd(nn.Linear):\n    def __setstate__(self, state):\n"
              "        raise KeyError('gone')\n")  # fmt: skip
        write("code.py", "import odd\nnet = odd.Odd(2, 2)\n")
        torch.save(opened("code.py:net").model, "m.pt")
        assert "KeyError" in line(UnreadableFile, "m.pt", trust=True)

    def test_old_tar_archives(self, line) -> None:
        import tarfile

        Path("x").write_text("x")
        with tarfile.open("m.pt", "w") as made:
            made.add("x")
        assert "a tar archive" in line(UnreadableFile, "m.pt")
        assert "a tar archive" in line(UnreadableFile, "m.pt", trust=True)


def test_stand_ins_take_anything_and_keep_nothing() -> None:
    assert set(holder_classes()) == HOLDERS
    for name, cls in holder_classes().items():
        made = cls(1, [2], a=3)
        if type(made) is cls:
            made.__setstate__({"__class__": int, "x": os.system})
            assert vars(made) == {}
            assert made.name == name
        else:
            assert made in ({}, [])
