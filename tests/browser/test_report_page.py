"""The HTML report as a browser shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests import shared_report
from tests.browser.pages import NAMES, PHONE, WIDE, Open, overflow

pytestmark = pytest.mark.browser


CONTRAST = """
selector => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b]
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (let n = node; n; n = n.parentElement) {
      const colour = rgba(getComputedStyle(n).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba(matchMedia("(prefers-color-scheme: dark)").matches ? "black" : "white");
  };
  return [...document.querySelectorAll(selector)].filter(n => n.checkVisibility()).map(node => {
    const style = getComputedStyle(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(rgba(ink)), light(behind(node))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  });
}
"""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_it_fits_the_screen(show: Open, name: str, size: dict[str, int]) -> None:
    page = show(name, size=size)
    assert overflow(page) <= 0
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert overflow(page) <= 0


def test_one_of_the_two_drawings_is_shown(show: Open) -> None:
    for size, seen, hidden in ((WIDE, "wide", "narrow"), (PHONE, "narrow", "wide")):
        page = show("exploding", size=size)
        assert page.locator(f"#growth .chart.{seen} svg").is_visible()
        assert not page.locator(f"#growth .chart.{hidden} svg").is_visible()


@pytest.mark.parametrize("name", ["exploding", "recurrent", "transformer"])
def test_text_in_charts_is_large_enough_to_read(show: Open, name: str) -> None:
    for size in (WIDE, PHONE):
        page = show(name, size=size)
        heights = page.evaluate(
            "[...document.querySelectorAll('.chart text')].filter(n => n.checkVisibility())"
            ".map(n => n.getScreenCTM().a * parseFloat(getComputedStyle(n).fontSize))"
        )
        assert heights
        assert min(heights) >= 9


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name",
    ["exploding", "uncured", "sound", "weights_only", "made_up", "recurrent", "transformer"],
)
def test_contrast(show: Open, name: str, scheme: str) -> None:
    page = show(name, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    selector = (
        ".verdict, h1, h2, h3, .lead, .aside, .forecast, .facts dt, .facts dd, small, td, th, "
        "summary, .severity, .rule, .tag, code, .copy, figcaption, .chart text, .missing dd, "
        ".notes, footer, .none, a, .proven, .proven b, .state, .versus td, .versus th, .tried p"
    )
    ratios = page.evaluate(CONTRAST, selector)
    assert len(ratios) > 40
    assert min(ratios) >= 4.5


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("name", ["exploding", "recurrent", "transformer"])
def test_no_words_in_a_chart_are_cut_off(show: Open, name: str, size: dict[str, int]) -> None:
    page = show(name, size=size)
    outside = page.evaluate(
        "[...document.querySelectorAll('.chart text')].filter(n => n.checkVisibility())"
        ".filter(n => { const r = n.getBoundingClientRect();"
        " return r.left < 0 || r.right > document.documentElement.clientWidth; })"
        ".map(n => n.textContent)"
    )
    assert outside == []


def test_the_strongest_head_has_the_strongest_colour(show: Open) -> None:
    page = show("transformer")
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    paint = "n => getComputedStyle(n).backgroundColor"
    weak, strong = (page.locator(f"#attention .heat{i}").first.evaluate(paint) for i in (0, 4))
    assert weak != strong
    assert "rgba(0, 0, 0, 0)" not in (weak, strong)


def test_schemes_differ_in_page_and_chart(show: Open) -> None:
    seen = set()
    for scheme in ("light", "dark"):
        page = show("exploding", color_scheme=scheme)
        seen.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        seen.add(
            page.evaluate("getComputedStyle(document.querySelector('.chart .s-series')).stroke")
        )
    assert len(seen) == 4


def test_it_is_complete_without_javascript(show: Open) -> None:
    page = show("exploding", java_script_enabled=False)
    assert page.locator("h1").is_visible()
    assert page.locator("#remedy-1 code").is_visible()
    assert not page.locator("#remedy-1 .copy").is_visible()
    assert page.locator("#growth .chart.wide svg").is_visible()
    assert page.locator("#change .versus").is_visible()
    assert not page.locator("#change .tried ol").is_visible()
    page.locator("#change .tried summary").click()
    assert page.locator("#change .tried ol").is_visible()
    assert page.locator("#growth details").evaluate("part => part.open") is False
    page.locator("#growth summary").click()
    assert page.locator("#growth table").is_visible()


def test_hostile_names_stay_text(show: Open) -> None:
    page = show("hostile")
    assert page.locator("script").count() == 1
    assert page.locator("img, [onclick], [onerror]").count() == 0
    assert "<script>alert(1)</script>" in page.locator("h1").inner_text()


def test_the_policy_stops_what_gets_in_anyway(browser: Browser, folder: Path) -> None:
    page = browser.new_page()
    page.goto((folder / "sound.html").as_uri())
    ran = page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.intruder = true";
          document.body.append(script);
          document.body.setAttribute("style", "display: none");
          return [window.intruder === true, getComputedStyle(document.body).display];
        }"""
    )
    page.close()
    assert ran == [False, "block"]


def test_copying_gives_the_code(show: Open) -> None:
    page = show("exploding", permissions=["clipboard-read", "clipboard-write"])
    button = page.locator("#remedy-1 .copy")
    button.click()
    expect(button).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == shared_report.INIT_CODE


def test_print_is_light_and_shows_everything(show: Open) -> None:
    page = show("exploding", color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#remedy-1 .copy").is_visible()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#growth table").is_visible()
    assert overflow(page) <= 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
