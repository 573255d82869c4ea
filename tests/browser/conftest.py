from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import pages
from tests.browser.pages import WIDE, Open

_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, if there is one; on CI its absence is an error, never a silent skip."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        if os.environ.get("CI"):
            raise RuntimeError("chromium is not installed: the report cannot be looked at")
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=_QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pages lie; each is rendered when a test first asks for it."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def show(browser: Browser, folder: Path) -> Iterator[Open]:
    """Opens a page from a file; in the end nothing was logged and nothing else was asked for."""
    complaints: list[str] = []
    contexts = []

    def opened(name: str, at: str = "", *, size: dict[str, int] = WIDE, **options: Any) -> Page:
        file = folder / f"{name}.html"
        if not file.exists():
            file.write_text(pages.page(name), encoding="utf-8")
        context = browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        address = file.as_uri()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                complaints.append(request.url)
                if not request.url.startswith((address, "data:"))
                else None
            ),
        )
        page.goto(address + at)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
