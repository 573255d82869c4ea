"""Addresses within the page: the same layer or finding always has the same one.

Every layer has ``anchor("layer", name)``, where ``name`` is that of a module or of a stage (the
model itself is ``""``), and every finding one of :func:`addresses`: ``GA101-encoder.3``. The
names are the user's: whatever they hold, an address is made of letters, digits and ``. _ - ~``.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from gradaudit.records import Finding

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 100  # characters of a name that stands in an address as it is
_KEPT = 40  # of one that cannot
_DIGITS = 10  # hexadecimal, to tell apart names that are alike once made safe


def anchor(kind: str, name: str) -> str:
    """The id of what is called ``name``: ``layer-encoder.3``; different names never share one.

    A name that is too long, or has characters that do not fit an address, is shortened and told
    apart by a digest: ``layer-a-b~0123456789``; no plain name has the ``~``.
    """
    if name and len(name) <= _LONGEST and not _UNSAFE.search(name):
        return f"{kind}-{name}"
    safe = _UNSAFE.sub("-", name)[:_KEPT].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{kind}-{safe}~{digest}"


def addresses(findings: Sequence[Finding]) -> tuple[str, ...]:
    """The id of each finding; where several share rule and place, the later ones are numbered."""
    seen: Counter[str] = Counter()
    ids = []
    for each in findings:
        base = finding(each)
        seen[base] += 1
        ids.append(base if seen[base] == 1 else f"{base}~no-{seen[base]}")
    return tuple(ids)


def finding(found: Finding) -> str:
    """The id of a finding that is alone at its place, of its rule and that: ``GA101-encoder.3``."""
    where = found.where
    name = str(where) or f"stage-{where.stage}"
    return anchor(found.code, name) + (f"~call-{where.call}" if where.call else "")
