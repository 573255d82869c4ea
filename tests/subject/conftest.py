"""Every test works in a folder of its own and leaves the import system as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradaudit.errors import GradauditError
from gradaudit.settings import Settings
from gradaudit.subject import Opened, open_subject


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        found = getattr(sys.modules[name], "__file__", None)
        if found and Path(found).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture
def write(folder: Path) -> Callable[[str, str], Path]:
    """Write a file of Python code into the test's folder."""

    def _write(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import torch\nfrom torch import nn\n" + text)
        return path

    return _write


Failing = Callable[..., str]


@pytest.fixture
def line() -> Failing:
    """The one line a subject cannot be opened with, checked to be one line and of the class."""

    def _line(kind: type[GradauditError], spec: str, **options: object) -> str:
        with pytest.raises(GradauditError) as caught:
            open_subject(spec, Settings(**options))  # type: ignore[arg-type]
        text = str(caught.value)
        assert type(caught.value) is kind, text
        assert "\n" not in text
        assert caught.value.exit_code == 2
        return text

    return _line


@pytest.fixture
def opened() -> Callable[..., Opened]:
    def _opened(spec: str, **options: object) -> Opened:
        return open_subject(spec, Settings(**options))  # type: ignore[arg-type]

    return _opened
