"""Style and script beside the page, as servers want it that forbid them within."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from gradaudit.reports import html
from tests import shared_report

pytestmark = pytest.mark.browser


class Strict(SimpleHTTPRequestHandler):
    """Serves files under a policy that allows nothing inline."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", "default-src 'self'")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("site")
    for name in ("pages", "st atic"):
        (where / name).mkdir()
    text = html.linked(shared_report.page("exploding"), "../st%20atic/")
    (where / "pages" / "linked.html").write_text(text, encoding="utf-8")
    (where / "pages" / "inline.html").write_text(shared_report.page("exploding"), encoding="utf-8")
    for name, content in html.assets().items():
        (where / "st atic" / name).write_text(content, encoding="utf-8")
    return where


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Strict, directory=str(site))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/pages"
        running.shutdown()
        thread.join()


def visit(browser: Browser, address: str) -> tuple[Page, list[str]]:
    said: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    return page, said


@pytest.mark.parametrize("served", [True, False], ids=["served", "file"])
def test_style_and_script_work_without_a_complaint(
    browser: Browser, server: str, site: Path, served: bool
) -> None:
    place = server if served else (site / "pages").as_uri()
    page, said = visit(browser, f"{place}/linked.html#layer-layers.13")
    assert page.locator(".hero").evaluate("n => getComputedStyle(n).borderLeftWidth") == "8px"
    stroke = "n => getComputedStyle(n).stroke"
    assert page.locator(".chart .s-series").first.evaluate(stroke) == "rgb(10, 95, 158)"
    assert page.locator('[id="layer-layers.13"]').evaluate("n => n.open")
    page.locator("#theme").select_option("dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
    page.close()
    assert said == []


def test_the_same_server_forbids_what_stands_within(browser: Browser, server: str) -> None:
    """Else the test above would show nothing."""
    page, said = visit(browser, f"{server}/inline.html")
    assert page.locator(".hero").evaluate("n => getComputedStyle(n).borderLeftWidth") == "0px"
    page.close()
    assert said
