"""What turns templates into pages: escaping, filters, and the policy that a page obeys."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from gradaudit.reports import wording
from gradaudit.reports.numbers import count, interval, number, percent
from gradaudit.reports.text import clean, plural, typeset
from gradaudit.resources import resource

STYLE, SCRIPT = "gradaudit.css", "gradaudit.js"  # the files that pages without inline parts link to
_STRICT = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
_LINKED = _STRICT + "style-src 'self'; script-src 'self'"
_SECTION = re.compile(r'<section id="([a-z-]+)"[^>]*>\s*<h2>(.*?)</h2>', re.S)
_TAG = re.compile(r"<[^>]*>")


def page(template: str, **values: Any) -> str:
    """The template as a page that is complete in itself."""
    texts = asset_files()
    style, script = texts[STYLE], texts[SCRIPT]
    return (
        _environment()
        .get_template(template)
        .render(policy=policy(style, script), style=Markup(style), script=Markup(script), **values)
    )


def linked(text: str, folder: str) -> str:
    """A page with links to style and script in place of its own.

    ``folder`` is what stands before their names in a link: ``""``, ``"static/"``, ``"../a%20b/"``.
    """
    texts = asset_files()
    style, script = texts[STYLE], texts[SCRIPT]
    place = escape(folder)
    for own, link in (
        (f'content="{escape(policy(style, script))}"', f'content="{escape(_LINKED)}"'),
        (f"<style>{style}</style>", f'<link rel="stylesheet" href="{place}{STYLE}">'),
        (f"<script>{script}</script>", f'<script src="{place}{SCRIPT}"></script>'),
        ('<link rel="icon" href="data:,">\n', ""),  # such a policy forbids data: too
    ):
        if own not in text:
            raise ValueError("not a page of this version")
        text = text.replace(own, link, 1)
    return text


def asset_files() -> dict[str, str]:
    """Style sheet and script by the names under which pages link to them."""
    sources = {STYLE: "report.css", SCRIPT: "report.js"}
    return {
        name: (resource("templates") / source).read_text(encoding="utf-8")
        for name, source in sources.items()
    }


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows this style sheet and this script only."""
    return _STRICT + f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(str(resource("templates"))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "percent": percent,
        "count": count,
        "say": wording.say,
        "flat": wording.flat,
        "plural": plural,
        "ticked": ticked,
        "headings": headings,
    }
    return environment


def _visible(value: Any) -> Any:
    """Every text that reaches the page, with control characters written out."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def ticked(text: str) -> Markup:
    """Text typeset, with what stands between backticks set as code."""
    parts = typeset(clean(text)).split("`")
    if len(parts) % 2 == 0:  # a backtick too many: which ones belong together is unknown
        return escape(clean(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
        for i, part in enumerate(parts)
    )


def headings(sections: Markup) -> tuple[tuple[str, str], ...]:
    """Address and heading of every section in a part of a page that is already escaped."""
    found = _SECTION.findall(str(sections))
    return tuple((address, Markup(_TAG.sub("", title)).unescape()) for address, title in found)
