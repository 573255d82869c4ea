"""A page of 2,000 layers opens at once and shows all of them."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests import shared_report
from tests.browser.pages import Open

pytestmark = pytest.mark.browser

TIMES = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return [page.loadEventEnd, paint ? paint.startTime : Infinity];
}"""


def test_it_opens_within_a_second(show: Open) -> None:
    loads, paints = [], []
    for _ in range(4):
        page = show("deep")
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        load, paint = page.evaluate(TIMES)
        loads.append(load)
        paints.append(paint)
    assert min(loads) < 1000
    assert min(paints) < 1000


def test_its_size_is_bounded() -> None:
    assert len(shared_report.page("deep").encode()) <= 3_000_000


def test_every_layer_is_found_by_its_name(show: Open) -> None:
    page = show("deep")
    page.locator("#filter").fill("layers.3777")
    expect(page.locator("#status")).to_have_text(re.compile(r"^\d of "))
    expect(page.locator(".all > summary .hits")).to_have_text("1 of 100")
    page.locator(".all > summary").click()
    page.locator("#layers .layer:visible > summary").click()
    assert page.locator("#layers tbody tr:visible td:first-child").all_inner_texts() == [
        "layers.3777"
    ]
