"""Sorting, filtering, hiding, links and colours, and the address that remembers them."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests import shared_report
from tests.browser.pages import PHONE, WIDE, Open

pytestmark = pytest.mark.browser

STATE = "?filter=layers.1&hide=1&theme=dark&sort=table-stages%3A2%3Adown"


def column(page: Page, table: str, index: int) -> list[str]:
    found = page.evaluate(
        "([id, i]) => [...document.getElementById(id).tBodies[0].rows]"
        ".filter(row => row.cells[i]).map(row => row.cells[i].firstChild?.textContent ?? '')",
        [table, index],
    )
    return [str(each).strip() for each in found]


def heads(page: Page, table: str) -> list[str]:
    return [each.split("↕")[0].strip() for each in page.locator(f"#{table} th").all_inner_texts()]


def test_numbers_sort_by_size_and_the_third_press_restores_the_order(show: Open) -> None:
    page = show("exploding")
    page.locator("#growth details summary").click()
    gain = heads(page, "table-stages").index("Gain")
    before = column(page, "table-stages", gain)
    head = page.locator("#table-stages th").nth(gain)
    for direction, wanted in (
        ("descending", sorted(before, key=float, reverse=True)),
        ("ascending", sorted(before, key=float)),
        ("none", before),
    ):
        head.locator("button").click()
        expect(head).to_have_attribute("aria-sort", direction)
        assert column(page, "table-stages", gain) == wanted
    assert page.locator("th[aria-sort]:not([aria-sort=none])").count() == 0


def test_powers_of_ten_sort_as_numbers_even_past_what_a_float_holds(show: Open) -> None:
    page = show("deep", "#layers-3?sort=table-layers-3:5:up")  # gradients up to 10^271
    found = [each for each in column(page, "table-layers-3", 5) if each]
    digits = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
    powers = [each.partition("×10")[::2] for each in found]
    sizes = [(int(power.translate(digits)), float(mantissa)) for mantissa, power in powers]
    assert len(sizes) == 40
    assert sizes == sorted(sizes)


def test_names_sort_as_people_count_and_parts_stay_below_their_weight(show: Open) -> None:
    page = show("exploding", "#?sort=table-stages:1:up")
    names = column(page, "table-stages", 1)
    assert names.index("layers.4") < names.index("layers.12") < names.index("layers.40")
    page = show("recurrent", "#?sort=table-weights:2:down")
    weights = column(page, "table-weights", 0)
    whole = [i for i, each in enumerate(weights) if each.startswith("decoder.")]
    assert whole == [0, 5]
    assert weights[1:5] == ["input", "forget", "cell", "output"]


def test_filtering_keeps_what_is_named_and_says_how_much(show: Open) -> None:
    page = show("exploding")
    page.locator("#filter").fill("LAYERS.12")
    expect(page.locator("#status")).to_have_text(re.compile(r"^\d+ of \d+ rows$"))
    page.locator("#layers summary").first.click()
    names = page.locator("#layers .layer:visible summary code").all_inner_texts()
    assert names == ["layers.12"]
    assert page.locator(".finding:visible").count() == 1
    expect(page.locator("#growth summary .hits")).to_have_text("1 of 31")
    page.locator("#growth details summary").click()
    assert page.locator("#table-stages tbody tr:visible").count() == 1
    page.locator("#filter").fill("nothing is called so")
    expect(page.locator("#status")).to_have_text(re.compile(r"^0 of \d+ rows$"))
    expect(page.locator("#growth .empty")).to_be_visible()
    page.locator("#filter").fill("")
    expect(page.locator("#status")).to_have_text("")
    assert page.locator("#table-stages tbody tr:visible").count() == 31
    assert page.locator(".finding:visible").count() == 4


def test_hiding_what_passes_leaves_what_fails_or_warns(show: Open) -> None:
    page = show("exploding")
    page.locator("#hide").check()
    assert page.locator(".finding:visible").count() == 3  # the note is hidden
    page.locator("#layers summary").first.click()
    hidden = page.locator("#layers .layer:not(.hot):visible").count()
    assert hidden == 0
    assert page.locator("#layer-layers\\.12").is_visible()
    page.locator("#growth details summary").click()
    assert 0 < page.locator("#table-stages tbody tr:visible").count() < 31
    sound = show("sound", "#?hide=1")
    assert sound.locator("#layers .layer:visible").count() == 0


@pytest.mark.parametrize(
    ("name", "address", "scripts"),
    [
        ("exploding", "GA101-layers.12", True),
        ("exploding", "layer-layers.13", True),
        ("exploding", "layer-layers.13", False),
        ("deep", "GA105-layers.2600.weight", True),  # a row in a folded table
        ("deep", "layer-layers.3001", False),
    ],
)
def test_an_address_opens_what_holds_its_place(
    show: Open, name: str, address: str, scripts: bool
) -> None:
    page = show(name, f"#{address}", java_script_enabled=scripts)
    place = page.locator(f'[id="{address}"]')
    expect(place).to_be_in_viewport()
    top, bar = (each.bounding_box() for each in (place, page.locator(".toolbar")))
    assert top
    assert bar
    assert top["y"] >= bar["y"] + bar["height"]  # not under what stays in view
    if scripts and address.startswith("layer-layers.13"):
        assert place.evaluate("node => node.open")
        assert "Saturated" in place.inner_text()


def test_the_whole_state_is_in_the_address_and_comes_back_with_it(show: Open) -> None:
    page = show("exploding")
    page.locator("#theme").select_option("dark")
    page.locator("#filter").fill("layers.1")
    expect(page.locator("#status")).not_to_have_text("")
    page.locator("#hide").check()
    page.locator("#growth details summary").click()
    page.locator("#table-stages th").nth(2).locator("button").click()
    page.locator('.finding [href="#layer-layers.12"]').first.click()
    expect(page).to_have_url(re.compile(re.escape(f"#layer-layers.12{STATE}") + "$"))
    again = show("exploding", f"#layer-layers.12{STATE}")
    assert again.evaluate("document.documentElement.dataset.theme") == "dark"
    assert again.locator("#theme").input_value() == "dark"
    assert again.locator("#filter").input_value() == "layers.1"
    assert again.locator("#hide").is_checked()
    expect(again.locator('[id="layer-layers.12"]')).to_be_in_viewport()
    for table in ("table-stages", "table-weights"):
        assert column(again, table, 1) == column(page, table, 1)
    assert again.url == page.url
    assert again.locator("#status").inner_text() == page.locator("#status").inner_text()


def test_going_back_restores_the_place_and_an_odd_address_harms_nothing(show: Open) -> None:
    page = show("exploding", "#GA101-layers.12")
    page.locator('.finding [href="#layer-layers.12"]').first.click()
    expect(page.locator('[id="layer-layers.12"]')).to_be_in_viewport()
    page.go_back()
    expect(page.locator('[id="GA101-layers.12"]')).to_be_in_viewport()
    odd = show("exploding", "#%E0%A4%A?sort=nowhere:9:up,table-stages:99:up&theme=<b>&filter=%00")
    assert odd.locator("h1").is_visible()
    assert odd.evaluate("document.documentElement.dataset.theme") is None


@pytest.mark.parametrize("reader", ["light", "dark"])
def test_the_switch_goes_before_the_readers_setting_in_page_and_chart(
    show: Open, reader: str
) -> None:
    page = show("exploding", color_scheme=reader)
    paints = (
        "() => [getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('.chart .s-series')).stroke]"
    )
    seen = {}
    for theme in ("light", "dark", ""):
        page.locator("#theme").select_option(theme)
        seen[theme or reader, bool(theme)] = page.evaluate(paints)
    assert seen["light", True][0] != seen["dark", True][0]
    assert seen["light", True][1] != seen["dark", True][1]
    assert seen[reader, False] == seen[reader, True]


def test_links_to_findings_can_be_copied_with_the_state(show: Open) -> None:
    page = show("exploding", "#?theme=dark", permissions=["clipboard-read", "clipboard-write"])
    page.locator("#GA101-layers\\.12 .here").click()
    expect(page.locator("#GA101-layers\\.12 .here")).to_have_text("Link copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.endswith("exploding.html#GA101-layers.12?theme=dark")
    page.locator("#share").click()
    expect(page.locator("#share")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_everything_is_reached_and_worked_by_keyboard(show: Open) -> None:
    page = show("exploding")
    copies = page.locator(".copy:visible").count()
    reached: dict[str, int] = {}
    copied = 0
    for step in range(400):
        page.keyboard.press("Tab")
        kind = page.evaluate(
            """() => {
              const node = document.activeElement;
              const ring = getComputedStyle(node).outlineStyle !== "none";
              if (node === document.body) return "body";
              if (!ring) return "without a ring: " + node.outerHTML.slice(0, 80);
              return node.id || node.className || node.tagName.toLowerCase();
            }"""
        )
        assert "without a ring" not in kind
        reached.setdefault(kind, step)
        copied += kind == "copy"
        if kind == "summary" and page.evaluate(
            "document.activeElement.textContent.includes('stages as a table')"
        ):
            page.keyboard.press("Enter")  # its headings come next
        if kind == "filter":
            page.keyboard.type("layers.1")
        if kind == "body":
            break
    assert {"theme", "filter", "hide", "share", "sort", "copy", "here", "summary"} <= set(reached)
    assert copied == copies >= 3
    assert reached["theme"] < reached["filter"] < reached["sort"]
    expect(page.locator("#status")).to_have_text(re.compile(r"\d+ of"))
    page.locator("#table-stages .sort").nth(2).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#table-stages th").nth(2)).to_have_attribute("aria-sort", "descending")
    page.locator("#hide").focus()
    page.keyboard.press("Space")
    assert page.locator("#hide").is_checked()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_hostile_names_stay_text_whatever_is_done(show: Open, size: dict[str, int]) -> None:
    page = show("hostile", size=size)
    page.locator("#filter").fill(shared_report.HOSTILE[:20])
    expect(page.locator("#status")).not_to_have_text("")
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    for table in ("table-stages", "table-weights", "table-modules"):
        page.locator(f"#{table} .sort").first.click()
    links = page.locator('.finding .place a[href^="#"]')
    for i in range(links.count()):
        if links.nth(i).is_visible():
            links.nth(i).click()
    assert page.locator("img, [onclick], [onerror], [style]").count() == 0
    assert page.locator("script").count() == 1
    unsafe = page.evaluate(
        "[...document.querySelectorAll('[id]')].map(n => n.id)"
        ".filter(id => !/^[A-Za-z0-9._~-]+$/.test(id))"
    )
    assert unsafe == []
    assert page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].every(a => document.getElementById("
        "decodeURIComponent(a.getAttribute('href').slice(1))))"
    )


def test_without_javascript_no_dead_control_is_shown(show: Open) -> None:
    page = show("exploding", java_script_enabled=False)
    assert page.locator("select:visible, input:visible, button:visible").count() == 0
    page.locator(".menu summary").click()
    assert page.locator(".menu a", has_text="Spectral norms").is_visible()
    page.locator('.finding [href="#layer-layers.12"]').first.click()
    expect(page.locator('[id="layer-layers.12"]')).to_be_in_viewport()
