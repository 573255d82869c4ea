"""Real files, damaged at random: never a traceback, a hang, too much memory or executed code.

``GRADAUDIT_FUZZ=500`` damages each file 500 times, with other numbers each time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.harness import Place, Zygote, check, check_line, listing, prepared
from tests.hostile.mutations import BESIDE, MODELS, Make, damage

TIMES = int(os.environ.get("GRADAUDIT_FUZZ", "0"))
ANY = frozenset({0, 1, 2, 3})
_SLOW = ("module", *BESIDE)  # what stays sound is run, not only read


def _fuzzed(name: str) -> settings:
    return settings(
        max_examples=TIMES or (5 if name in _SLOW else 25),
        deadline=None,
        derandomize=not TIMES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sound files, each made once."""
    made: dict[str, Path] = {}
    for name, make in _makers().items():
        made[name] = make(tmp_path_factory.mktemp("whole"))
    return made


def _makers() -> dict[str, Make]:
    return {**MODELS, **{name: make for name, (_, make) in BESIDE.items()}}


def _fuzz(
    name: str, whole: dict[str, Path], zygote: Zygote, before: Callable[[Place], list[Path | str]]
) -> None:
    """Run the command on damaged copies of a sound file, after the arguments ``before`` makes."""

    @_fuzzed(name)
    @given(st.randoms(use_true_random=False))
    def fuzzed(random: Random) -> None:
        with TemporaryDirectory() as folder:
            place = prepared(Path(folder))
            path = _copied(whole[name], place)
            damage(path, random)
            _run([*before(place), path], place, zygote)

    fuzzed()


@pytest.mark.parametrize("name", MODELS)
def test_damaged_models(name: str, whole: dict[str, Path], zygote: Zygote) -> None:
    _fuzz(name, whole, zygote, lambda _: [])


@pytest.mark.parametrize("name", BESIDE)
def test_damaged_data(name: str, whole: dict[str, Path], zygote: Zygote) -> None:
    option = BESIDE[name][0]
    _fuzz(name, whole, zygote, lambda place: [_copied(whole["module"], place), option])


def _copied(path: Path, place: Place) -> Path:
    copy = place.files / path.name
    if path.is_dir():
        shutil.copytree(path, copy)
    else:
        shutil.copy(path, copy)
    return copy


def _run(arguments: Sequence[str | Path], place: Place, zygote: Zygote) -> None:
    before = listing(place.root)
    given = [*map(str, arguments), "--effort", "quick", "--no-html", "--quiet"]
    outcome = zygote.ask(place.work, arguments=given)
    check(outcome, ANY, zygote.rss)
    assert listing(place.root) == before
    if outcome.code == 2:
        check_line(outcome)
