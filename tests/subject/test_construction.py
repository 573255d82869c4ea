"""Where in the user's code layers are made, and that watching leaves no trace."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradaudit.errors import ModelError
from gradaudit.locating import located
from gradaudit.records import Estimate, Finding, Limit, Where
from gradaudit.settings import Settings
from gradaudit.subject import Opened, from_python, open_subject
from gradaudit.subject.construction import Construction
from tests.rules.literal import measurements

CODE = """
import functools

import torch
from torch import nn

from parts.blocks import Block, Early, Made, Wrapped


def noisy(function):
    @functools.wraps(function)
    def inner():
        return function()

    return inner


@noisy
@functools.lru_cache
def make():  # the factory
    hidden = [nn.Linear(4, 4) for _ in range(3)]  # in a loop
    return nn.Sequential(  # the model
        *hidden,
        nn.Linear(4, 4),  # its own line
        nn.LayerNorm(
            4,
            eps=1e-5,
        ),
        Block(4),  # a block
        Early(4),  # super().__init__ at the end
        Made(4),  # by __new__
        Wrapped(4),  # through a wrapper
        nn.TransformerEncoderLayer(4, 1),  # made by torch inside
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 1), 2, enable_nested_tensor=False),
    )


def broken():
    nn.Linear(4, 4)
    raise ValueError("no")


built = make()  # a name
shortcut = functools.partial(make)
"""
BLOCKS = """
import functools

from torch import nn


def wrapped(init):
    @functools.wraps(init)
    def wrapper(*args, **kwargs):
        init(*args, **kwargs)

    return wrapper


class Block(nn.Module):  # the class
    def __init__(self, size):
        super().__init__()
        self.inside = nn.Linear(size, size)  # inside a block

    def forward(self, x):
        return self.inside(x)


class Early(Block):
    def __init__(self, size):
        self.size = size
        Block.__init__(self, size)


class Made(Block):
    def __new__(cls, size):
        return super().__new__(cls)


class Wrapped(Block):
    __init__ = wrapped(Block.__init__)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with code in it."""
    here = tmp_path_factory.mktemp("repository")
    (here / ".git").mkdir()
    (here / "work" / "parts").mkdir(parents=True)
    (here / "work" / "net.py").write_text(CODE)
    (here / "work" / "parts" / "blocks.py").write_text(BLOCKS)
    return here


def line_of(code: str, words: str) -> int:
    return next(i for i, line in enumerate(code.splitlines(), 1) if words in line)


def net(words: str) -> tuple[str, int]:
    return "work/net.py", line_of(CODE, words)


def block(words: str) -> tuple[str, int]:
    return "work/parts/blocks.py", line_of(BLOCKS, words)


@pytest.fixture
def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Opened]:
    def open_it(spec: str, **settings: Any) -> Opened:
        return open_subject(spec, Settings(input="float32[2,4]", **settings))

    monkeypatch.chdir(folder)
    return open_it


def test_every_module_has_the_line_that_calls_for_it(opened: Callable[..., Opened]) -> None:
    lines = opened("work/net.py:make").lines
    assert lines[""] == net("# the model")
    for name in "012":
        assert lines[name] == net("# in a loop")
    assert lines["3"] == net("# its own line")
    assert lines["4"] == net("nn.LayerNorm(")
    for name, words in (
        ("5", "# a block"),
        ("6", "# super().__init__ at the end"),
        ("7", "# by __new__"),
        ("8", "# through a wrapper"),
    ):
        assert lines[name] == net(words), name
        assert lines[f"{name}.inside"] == block("# inside a block")
    assert lines["9"] == lines["9.self_attn.out_proj"] == net("# made by torch inside")
    # copied inside torch, and so never made: that of what is around them
    assert lines["10.layers.1.linear1"] == net("nn.TransformerEncoder(")
    assert set(lines) == {name for name, _ in opened("work/net.py:make").model.named_modules()}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("make", "# the factory"),
        ("built", "# a name"),
        ("shortcut", "# the factory"),
    ],
)
def test_the_code_that_makes_the_model(
    name: str, words: str, opened: Callable[..., Opened]
) -> None:
    row = opened(f"work/net.py:{name}").row
    assert (row.file, row.line) == net(words)


def test_paths_are_those_from_the_working_folder(
    opened: Callable[..., Opened], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "other").mkdir(exist_ok=True)
    monkeypatch.chdir(folder / "other")
    found = opened("../work/net.py:make")
    assert found.row.file == "../work/net.py"
    assert found.lines["5.inside"].file == "../work/parts/blocks.py"


def test_code_that_builds_for_a_file_of_weights(
    opened: Callable[..., Opened], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(opened("work/net.py:make").model.state_dict(), folder / "weights.pt")  # type: ignore[union-attr]
    found = opened("weights.pt", build="work/net.py:make")
    assert (found.row.file, found.row.line) == net("# the factory")
    assert found.lines["3"] == net("# its own line")


def test_a_pickled_module_has_its_class(opened: Callable[..., Opened], folder: Path) -> None:
    model = nn.Sequential(opened("work/net.py:make").model[5])  # type: ignore[index]
    torch.save(model, folder / "module.pt")
    found = opened("module.pt", trust=True)
    assert found.lines["0"] == block("# the class")
    assert found.lines["0.inside"] == block("# the class")
    assert "" not in found.lines


class Mine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x)


def test_a_model_in_memory_has_its_class_or_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(__file__).resolve()
    monkeypatch.chdir(home.parent.parent.parent)
    text = home.read_text()
    settings = Settings(input="float32[2,4]")
    row = from_python(Mine(), None, None, None, settings).row
    assert (row.file, row.line) == (
        "tests/subject/test_construction.py",
        line_of(text, "class Mine("),
    )
    row = from_python(nn.Sequential(nn.Linear(4, 4)), None, None, None, settings).row  # here
    assert row.file == "tests/subject/test_construction.py"
    assert row.line == line_of(text, "settings).row  # here")


# Leaving no trace


def test_watching_is_over_when_the_factory_raises(opened: Callable[..., Opened]) -> None:
    before = nn.Module.__init__
    with pytest.raises(ModelError, match="no"):
        opened("work/net.py:broken")
    assert nn.Module.__init__ is before


def test_watching_inside_of_watching() -> None:
    before = nn.Module.__init__
    outer, inner = Construction(), Construction()
    with outer.watched():
        first = nn.Linear(1, 1)
        with inner.watched():
            second = nn.Linear(1, 1)
        third = nn.Linear(1, 1)
    assert nn.Module.__init__ is before
    assert [outer.of(each) is not None for each in (first, second, third)] == [True, True, True]
    assert [inner.of(each) is not None for each in (first, second, third)] == [False, True, False]


def test_what_others_put_in_place_stays() -> None:
    before = nn.Module.__init__
    made = Construction()
    try:
        with made.watched():
            ours = nn.Module.__init__

            def theirs(module: nn.Module, *args: Any, **kwargs: Any) -> None:
                ours(module, *args, **kwargs)

            nn.Module.__init__ = theirs  # type: ignore[method-assign]
        assert nn.Module.__init__ is theirs
        assert made.of(nn.Linear(1, 1)) is None
    finally:
        nn.Module.__init__ = before  # type: ignore[method-assign]


def test_modules_are_not_kept_alive_nor_taken_for_others() -> None:
    made = Construction()
    with made.watched():
        for _ in range(3):
            nn.Linear(1, 1)
        module = nn.Linear(1, 1)
    again = [nn.Linear(1, 1) for _ in range(20)]
    assert made.of(module) is not None
    assert all(made.of(each) is None for each in again)


# Findings


def finding(where: Where) -> Finding:
    one = Estimate.exact(1.0, "x")
    return Finding("GA101", "name", "fail", where, one, Limit(0.5, "x", "here"), "Why.")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Where(module="5.inside"), block("# inside a block")),
        (Where(parameter="5.inside.weight"), block("# inside a block")),
        (Where(parameter="3.parametrizations.weight.original0"), net("# its own line")),
        (Where(module="3", stage=0), net("# its own line")),
        (Where(stage=0), net("nn.LayerNorm(")),
        (Where(stage=7), net("# the factory")),
        (Where(), net("# the factory")),
        (Where(module="nowhere"), net("# the factory")),
        (Where(module="5", file="theirs.py", line=3), ("theirs.py", 3)),
    ],
)
def test_findings_get_the_line_of_their_layer(
    where: Where, expected: tuple[str, int], opened: Callable[..., Opened]
) -> None:
    from tests.shared_rows import stages

    chain = (dataclasses.replace(stages(1, 1.0)[0], index=0, modules=("4",)),)
    (found,) = located([finding(where)], opened("work/net.py:make"), measurements(stages=chain))
    assert (found.where.file, found.where.line) == expected
    assert dataclasses.replace(found.where, file=where.file, line=where.line) == where


def test_without_code_findings_stay_as_they_are(
    opened: Callable[..., Opened], folder: Path
) -> None:
    torch.save(nn.Linear(4, 4).state_dict(), folder / "alone.pt")
    found = opened("alone.pt")
    assert (found.row.file, found.row.line) == ("", None)
    (same,) = located([finding(Where(module="a"))], found, measurements())
    assert same.where == Where(module="a")


def test_code_outside_the_repository_has_its_whole_path(
    opened: Callable[..., Opened], tmp_path: Path
) -> None:
    (tmp_path / "far.py").write_text(
        textwrap.dedent("""
            from torch import nn
            def make():
                return nn.Sequential(nn.Linear(4, 4))
        """)
    )
    found = opened(f"{tmp_path}/far.py:make")
    assert found.row.file == str(tmp_path / "far.py")
    assert found.lines["0"] == (str(tmp_path / "far.py"), 4)
