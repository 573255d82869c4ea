"""Files that lie beside the package in a checkout and inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(*parts: str) -> Path:
    """Path of e.g. ``resource("templates", "report.html.j2")``.

    Raises ``FileNotFoundError`` naming both places that were looked in.
    """
    places = [_PACKAGE.joinpath(*parts), _PACKAGE.parent.joinpath(*parts)]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(" or ".join(map(str, places)))
