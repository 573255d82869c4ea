"""axe finds nothing wrong with a page, in any colours and at any width."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.pages import PHONE, WIDE, Open, unfold

pytestmark = pytest.mark.browser

SIZES = {"wide": WIDE, "phone": PHONE}
# Rows and layers are all made alike: a few of each kind stand for all, and axe takes a second.
FEWER = """() => {
  const thin = (nodes, kind) => {
    const seen = {};
    for (const node of nodes) {
      seen[kind(node)] = (seen[kind(node)] || 0) + 1;
      if (seen[kind(node)] > 2) node.remove();
    }
  };
  for (const body of document.querySelectorAll("tbody"))
    thin([...body.rows], row => row.className + row.cells[0].className);
  thin([...document.querySelectorAll(".layer")], layer => layer.className);
  thin([...document.querySelectorAll(".layer .figures")], () => "figures");
}"""


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [
        ("exploding", "wide", "light"),
        ("exploding", "phone", "dark"),
        ("transformer", "wide", "dark"),
        ("transformer", "phone", "light"),
        ("compared", "phone", "dark"),
        ("weights_only", "wide", "dark"),
        ("hostile", "wide", "light"),
        ("index", "wide", "light"),
        ("index", "phone", "dark"),
    ],
)
def test_axe_finds_no_violation(show: Open, name: str, size: str, scheme: str) -> None:
    page = show(name, size=SIZES[size], color_scheme=scheme)
    unfold(page)
    page.evaluate(FEWER)
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response
    told = [
        (rule["id"], [node["html"][:120] for node in rule["nodes"][:3]])
        for rule in found["violations"]
    ]
    assert told == []


def test_axe_finds_what_is_wrong(show: Open) -> None:
    """The check itself can fail."""
    page = show("index")
    page.evaluate(
        "document.querySelector('select').parentElement.replaceWith("
        "document.querySelector('select'))"
    )
    found = Axe().run(page).response
    assert "select-name" in [rule["id"] for rule in found["violations"]]
