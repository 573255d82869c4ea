"""Every hostile or broken file ends in one line and exit code 2, and nothing of it is executed."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tests.hostile
from tests.hostile.harness import Case, Place, Zygote, run_case


def _found() -> list[Case]:
    found: list[Case] = []
    for info in pkgutil.iter_modules(tests.hostile.__path__):
        if info.name.startswith("cases_"):
            module = importlib.import_module(f"tests.hostile.{info.name}")
            family = info.name.removeprefix("cases_")
            found += [
                Case(f"{family}: {c.name}", c.make, c.says, c.codes, c.armed)
                for c in module.cases()
            ]
    return found


CASES = _found()


def test_there_are_many_and_each_is_named_once() -> None:
    assert len(CASES) >= 120
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case: Case, place: Place, zygote: Zygote) -> None:
    run_case(case, place, zygote)


ARMED = [case for case in CASES if case.armed]


@pytest.mark.parametrize("case", ARMED, ids=[case.name for case in ARMED])
def test_it_would_have_been_executed(case: Case, place: Place, zygote: Zygote) -> None:
    """A case that could not do harm would prove nothing."""
    made = case.make(place)
    zygote.ask(place.work, opens=str(made))
    assert place.canary.exists()
