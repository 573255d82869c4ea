"""Drawings made fit to stand inside a page: no styles of their own, no ids that clash.

A chart is drawn in marker colours, one per role. Here they become class names, so that the page's
style sheet colours one drawing for light, dark and print, and inline ``style`` attributes, which a
strict Content-Security-Policy blocks, become plain attributes.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

# Role -> the colour it is drawn in. The values mean nothing: the style sheet's count.
INKS = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "series": "#040404",
    "after": "#0a0a0a",
    "accent": "#050505",
    "bad": "#060606",
    "band": "#070707",
    "after-band": "#0b0b0b",
    "zone": "#090909",
    "surface": "#080808",
}
_ROLES = {colour: role for role, colour in INKS.items()}
_XLINK = "{http://www.w3.org/1999/xlink}href"
_URL = re.compile(r"url\(#([^)]+)\)")
_LONG = re.compile(r"\d+\.\d{3,}")  # a hundredth of a pixel is enough
_SIZE = re.compile(r"(\d+(?:\.\d+)?)px")
# Defaults of SVG itself, or of the page's style sheet: left out to keep pages small.
_IMPLIED = {"stroke-linejoin", "stroke-linecap", "stroke-miterlimit", "font-family", "font-style"}


def inline(drawing: str, *, prefix: str, title: str, description: str) -> str:
    """Matplotlib's SVG text as an element for a page, its ids starting with ``prefix``.

    ``title`` and ``description`` are what a screen reader says. Raises ``ValueError`` when the
    text is not an SVG document.
    """
    try:
        source = ET.fromstring(drawing)
    except ET.ParseError as error:
        raise ValueError(f"not an SVG document: {error}") from None
    used = _references(source)
    root = _convert(source, prefix, used)
    _name(root, prefix, title, description)
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _references(source: ET.Element) -> set[str]:
    """The ids that something in the drawing points at."""
    found: set[str] = set()
    for element in source.iter():
        for key, value in element.attrib.items():
            if key == _XLINK:
                found.add(value.removeprefix("#"))
            found.update(_URL.findall(value))
    return found


def _convert(element: ET.Element, prefix: str, used: set[str]) -> ET.Element:
    tag = element.tag.rpartition("}")[2]
    copy = ET.Element(tag, _attributes(element, prefix, used))
    copy.text = (element.text or "").strip() or None
    for child in element:
        # Comments have no string tag; metadata and styles must not leak into the page.
        if isinstance(child.tag, str) and not child.tag.endswith(("}metadata", "}style")):
            converted = _convert(child, prefix, used)
            if len(converted) or tag == "text" or converted.tag not in ("g", "defs"):
                copy.append(converted)
    return copy


def _attributes(element: ET.Element, prefix: str, used: set[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    classes: list[str] = []
    pairs = [(k, v) for k, v in element.attrib.items() if k != "style"]
    for key, value in pairs + _declarations(element.get("style", "")):
        if key == "id":
            if value in used:
                result["id"] = f"{prefix}-{value}"
        elif key == _XLINK:
            result["href"] = f"#{prefix}-{value.removeprefix('#')}"
        elif key in ("fill", "stroke") and value in _ROLES:
            classes.append(f"{key[0]}-{_ROLES[value]}")
        elif key == "font-family" and "Mono" in value:
            classes.append("mono")
        elif key not in _IMPLIED and not value.startswith("rotate(-0 "):
            pointed = _URL.sub(lambda m: f"url(#{prefix}-{m.group(1)})", value)
            result[key] = _LONG.sub(_rounded, " ".join(pointed.split()))
    if classes:
        result["class"] = " ".join(classes)
    return result


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match.group()):.2f}"


def _declarations(style: str) -> list[tuple[str, str]]:
    """A style attribute as pairs; the ``font`` shorthand, which is no attribute, taken apart."""
    pairs: list[tuple[str, str]] = []
    for declaration in filter(None, (part.strip() for part in style.split(";"))):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":
            size = _SIZE.search(value)
            pairs.append(("font-size", size.group(1) if size else "12"))
            pairs.append(("font-family", value))
            if "bold" in value or re.search(r"\b[6-9]00\b", value):
                pairs.append(("font-weight", "600"))
        else:
            pairs.append((key, value.removesuffix("px") if key == "font-size" else value))
    return pairs


def _name(root: ET.Element, prefix: str, title: str, description: str) -> None:
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    ids = {"title": f"{prefix}-title", "desc": f"{prefix}-desc"}
    root.attrib |= {"role": "img", "aria-labelledby": ids["title"]}
    root.attrib["aria-describedby"] = ids["desc"]
    for index, (tag, text) in enumerate((("title", title), ("desc", description))):
        label = ET.Element(tag, {"id": ids[tag]})
        label.text = text
        root.insert(index, label)
