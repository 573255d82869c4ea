"""Exported programs and TorchScript files: what is looked at, left out, damaged, or let through."""

from __future__ import annotations

import contextlib
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradaudit.errors import GradauditError
from gradaudit.subject.formats import open_file
from gradaudit.subject.formats.pt2 import inspect_exported
from gradaudit.subject.formats.pt2.expressions import sound_expression
from gradaudit.subject.formats.torchscript import inspect_torchscript
from tests.command import FAST, run
from tests.hostile.cases_graph_files import (
    EXPORTED,
    SCRIPTED,
    Touch,
    code_of,
    exported,
    field,
    scripted,
)
from tests.subject.graph_files import changed, record, unwarned


def refused(path: Path, folder: Path, said: str) -> None:
    """Exit 2 in one line that matches ``said``, and nothing written."""
    ran = run(str(path), *FAST, "--input", "float32[4,4]", "--no-html", "--json", "-", cwd=folder)
    assert ran.code == 2, ran.out + ran.err
    assert len(ran.said) == 1, ran.err
    assert re.search(said, ran.err), ran.err
    assert "\x1b" not in ran.err


@pytest.mark.parametrize("case", [*EXPORTED, *(f"{name} " for name in SCRIPTED)])
def test_inspecting_is_safe_too(case: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    if case in EXPORTED:
        path = EXPORTED[case][0](exported(tmp_path), canary)
    else:
        path = SCRIPTED[case.rstrip()][0](scripted(tmp_path), canary)
    look = inspect_exported if path.suffix == ".pt2" else inspect_torchscript
    with contextlib.suppress(GradauditError):
        look(path)
    assert not canary.exists()


def test_guards_and_extra_files_are_left_out(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = field(("guards_code",), ["CANARY"])(exported(tmp_path), canary)
    changed(path, {"extra/evil.pkl": pickle.dumps(Touch(canary))})
    model = open_file(path, trust=False).model
    assert model is not None
    assert model(torch.zeros(3, 4)).shape == (3, 3)
    assert not canary.exists()


def test_a_layer_shows_no_more_of_itself_than_its_settings(tmp_path: Path) -> None:
    """A class may declare what it likes: torch's own layer stands in with plain values only."""
    path = scripted(tmp_path)
    name = code_of(path, "Linear")
    source = record(path, name).decode()
    for asked in ("__dict__", "_parameters", "__class__", "register_forward_hook"):
        declared = source.replace("  training : bool\n", f"  training : bool\n  {asked} : Any\n")
        where = code_of(scripted(tmp_path), "Net")
        code = record(path, where).decode()
        head, mark, tail = code.partition("-> Tensor:\n")
        body = f"    layer = self.layer\n    y = layer.{asked}\n"
        tail = tail.replace("    layer = self.layer\n", "")
        changed(path, {name: declared.encode(), where: f"{head}{mark}{body}{tail}".encode()})
        refused(path, tmp_path, f"has no '{asked}'")


@pytest.mark.parametrize("make", [exported, scripted])
def test_archives_with_tricks_are_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        first = archive.namelist()[0]
        root = first.partition("/")[0]
    for name in (f"{root}/../evil", "/evil", "other/evil", first, f"{root}\\..\\evil"):
        path.write_bytes(sound)
        with unwarned(), zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"x")
        refused(path, tmp_path, "record")
    for length in (len(sound) // 3, len(sound) - 30):
        path.write_bytes(sound[:length])
        # cut behind the example inputs, it ends in an archive of their own
        refused(path, tmp_path, "damaged|truncated|holds no model")
    path.write_bytes(sound)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{root}/bomb", bytes(1 << 24))
    refused(path, tmp_path, "compressed")


@pytest.mark.parametrize("make", [exported, scripted])
def test_mutated_files_never_end_in_a_traceback(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = make(tmp_path)
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        names = [name.removeprefix(f"{root}/") for name in archive.namelist()]
    names = [name for name in names if name.endswith((".pkl", ".py", ".json", "model.pt"))]
    held = {name: record(path, name) for name in names}
    opened = 0
    for seed in range(60):
        drawn = random.Random(seed)
        name = drawn.choice([name for name in names if len(held[name]) > 8])
        content = bytearray(held[name])
        at = drawn.randrange(len(content) - 4)
        content[at : at + drawn.randrange(3)] = drawn.randbytes(drawn.randrange(3))
        path.write_bytes(sound)
        with contextlib.suppress(GradauditError):
            opened += (
                open_file(changed(path, {name: bytes(content)}), trust=False).model is not None
            )
    assert 0 < opened < 60


@pytest.mark.parametrize(
    "text",
    [
        "s0", "2*s0 + 1", "Symbol('s77', positive=True, integer=True)", "Max(1, s0//2)", "-u3",
        "Eq(Mod(s0, 8), 0)", "FloorDiv(s0 - 1, Integer(2))**2", "Mul(Integer(2), Symbol('s1'))",
        "And(s0 > 2, Not(s1 < 3))", "Pow(Symbol('s0'), Integer(-1))", "Rational(1, 2)", "12",
    ],
)  # fmt: skip
def test_sizes_that_exports_write_are_sound(text: str) -> None:
    assert sound_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "s0.__class__", "().__class__", "exec('1')", "x", "S",
        "lambda: 0", "[s0]", "'s0'.join", "Symbol('s0', commutative=[1])", "Symbol(name='s0')",
        "Lambda(s0, 1)", "s0; s1", "s0\nimport os", "9**9**9", "s0**999", "LShift(1, 10**9)",
        "9**9*9**9*9**9*9**9*9**9", "1" * 30, "s0[0]", "f'{s0}'", "Symbol('os.system')", "", 3,
        "sympify('s0')", "Integer.__init__", "s0 if s0 else s0", "(s0 := 1)", "s0" * 2000,
    ],
)  # fmt: skip
def test_sizes_that_are_anything_else_are_not(text: Any) -> None:
    assert not sound_expression(text)
