"""Scoring goes on where it was interrupted, and begins anew where the code has changed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from gradaudit.records import Recipe
from tests.corpus import run
from tests.corpus.case import Case, Task

NAMES = ("a/one", "a/two", "b/three")


class Here:
    """A pool whose jobs run in this process as they are handed in."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Any, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(job))
        return future


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A corpus of three in a place of its own; what was scored is listed."""
    task = Task("t", "mse", lambda _: iter(()))
    every = {
        module: tuple(
            Case(name, task, nn.Identity, Recipe()) for name in NAMES if name.startswith(module)
        )
        for module in "ab"
    }
    scored: list[str] = []

    def foreseen(case: Case, *, mend: bool) -> dict[str, Any]:
        scored.append(case.name)
        if case.name == "a/two":
            raise ArithmeticError("two is too many")
        return {"outcome": "trains", "mend": mend}

    (tmp_path / "gradaudit" / "part").mkdir(parents=True)
    (tmp_path / "gradaudit" / "part" / "code.py").write_text("x = 1\n")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "modules", lambda half: ("a", "b"))
    monkeypatch.setattr(run, "cases_of", lambda half, module: every[module])
    monkeypatch.setattr(run, "digest", lambda half, module: half + module)
    monkeypatch.setattr(run, "foreseen", foreseen)
    monkeypatch.setattr(run, "ProcessPoolExecutor", Here)
    return scored


def test_all_rows_are_made_saved_and_known(asked: list[str]) -> None:
    assert run.known("tune") == {}
    rows = run.run("tune", jobs=1)
    assert asked == list(NAMES)
    assert rows["a/one"] == {"outcome": "trains", "mend": True}
    assert "two is too many" in rows["a/two"]["error"]
    assert run.known("tune") == rows
    assert set(rows) == set(NAMES)
    assert run.known("held") == {}


def test_rows_stand_in_the_order_of_the_cases(asked: list[str]) -> None:
    run.run("tune", jobs=1, only="three")
    assert list(run.run("tune", jobs=1)) == list(NAMES)
    assert list(run.known("tune")) == list(NAMES)


def test_it_goes_on_where_it_was_interrupted(asked: list[str]) -> None:
    run.run("tune", jobs=1, only="b/")
    assert asked == ["b/three"]
    rows = run.run("tune", jobs=1)
    assert asked == ["b/three", "a/one", "a/two"]
    run.run("tune", jobs=1)
    assert len(asked) == 3
    assert run.known("tune") == rows


def test_what_was_done_when_it_was_killed_is_kept(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SAVED_EVERY", 2)

    def killed(futures: Any) -> Iterator[Any]:
        yield from list(futures)[:2]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "as_completed", killed)
        with pytest.raises(KeyboardInterrupt):
            run.run("tune", jobs=1)
    assert set(run.known("tune")) == {"a/one", "a/two"}
    asked.clear()
    assert set(run.run("tune", jobs=1)) == set(NAMES)
    assert asked == ["b/three"]


@pytest.mark.parametrize("what", ["package", "cases"])
def test_rows_of_other_code_are_made_anew(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    run.run("tune", jobs=1)
    before = run.code("tune")
    assert run.code("tune") == before
    assert run.code("held") != before
    if what == "package":
        (run.ROOT / "gradaudit" / "part" / "code.py").write_text("x = 2\n")
    else:
        monkeypatch.setattr(run, "digest", lambda half, module: f"{half}{module}2")
    assert run.code("tune") != before
    assert run.known("tune") == {}
    asked.clear()
    run.run("tune", jobs=1)
    assert asked == list(NAMES)


def test_an_interruption_while_saving_leaves_the_rows_that_were_there(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.run("tune", jobs=1, only="a/")
    written = Path.write_text

    def cut_short(path: Path, text: str, **how: Any) -> int:
        written(path, text[: len(text) // 2], **how)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", cut_short)
        with pytest.raises(KeyboardInterrupt):
            run.run("tune", jobs=1)
    assert set(run.known("tune")) == {"a/one", "a/two"}
    assert list(run.run("tune", jobs=1)) == list(NAMES)


def test_rows_without_cures_are_not_taken_for_rows_with_them(asked: list[str]) -> None:
    run.run("tune", jobs=1, mend=False)
    assert set(run.known("tune", mend=False)) == set(NAMES)
    assert run.known("tune") == {}
    assert run.run("tune", jobs=1)["a/one"]["mend"] is True


def test_the_code_of_the_real_package_and_corpus_stays_the_same() -> None:
    assert run.code("tune") == run.code("tune") != run.code("held")
    assert Path(__file__).parents[2] == run.ROOT
    assert (run.ROOT / "gradaudit" / "__init__.py").is_file()
