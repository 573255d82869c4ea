from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.harness import Place, Zygote, prepared


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """The process that all hostile cases are forked from."""
    started = Zygote.start()
    yield started
    started.stop()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Folders of this case's own."""
    return prepared(tmp_path)
