from __future__ import annotations

import pytest

from gradaudit.records import Report
from tests import shared_report


@pytest.fixture(params=sorted(shared_report.every()))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def report(name: str) -> Report:
    return shared_report.every()[name]
