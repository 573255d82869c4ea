"""What ``gradaudit inspect`` prints: text for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator

from gradaudit.records import Contents, GlobalEntry, TensorEntry, plain
from gradaudit.telling import printable

SCHEMA = "gradaudit.contents/1"
_MARKS = {"dangerous": "✗", "unlisted": "?", "allowed": "✓"}
_SHOWN = 200  # tensors; JSON has them all
_WIDEST = 100


def render_json(contents: Contents) -> str:
    """Everything, as JSON."""
    return json.dumps({"schema": SCHEMA, **plain(contents)}, indent=2, allow_nan=False) + "\n"


def render_text(contents: Contents) -> str:
    """A page for a terminal; names out of the file do nothing to it."""
    return "\n".join(_lines(contents)) + "\n"


def _lines(contents: Contents) -> Iterator[str]:
    yield f"{printable(contents.source)}: {contents.kind}, {_bytes(contents.size)}"
    yield f"trust: {_trust(contents)}"
    yield from (f"note: {printable(note)}" for note in contents.notes)
    if contents.globals:
        yield f"asks for: {len(contents.globals)} names"
        order = list(_MARKS)
        asked = sorted(contents.globals, key=lambda each: (order.index(each.standing), each.name))
        yield from map(_asked, asked)
    yield from _tensors(contents.tensors)


def _trust(contents: Contents) -> str:
    words = {"none": "not needed", "needed": "--trust is needed", "never": "never opened"}
    return f"{words[contents.trust]}: {printable(contents.why)}"


def _asked(entry: GlobalEntry) -> str:
    return f"  {_MARKS[entry.standing]} {entry.standing:10}{printable(entry.name, _WIDEST)}"


def _tensors(tensors: tuple[TensorEntry, ...]) -> Iterator[str]:
    types = Counter(each.dtype for each in tensors)
    said = ", ".join(f"{count:,} {name}" for name, count in types.most_common())
    values = sum(math.prod(each.shape) for each in tensors)
    size = _bytes(sum(each.size for each in tensors))
    yield f"tensors: {len(tensors):,}" + (f" ({said}), {values:,} values, {size}" * bool(tensors))
    shown = tensors[:_SHOWN]
    names = [printable(each.name, _WIDEST) for each in shown]
    width = max(map(len, names), default=0)
    for name, each in zip(names, shown, strict=True):
        shape = ",".join(map(str, each.shape))
        yield f"  {name:{width}}  {each.dtype}[{shape}]  {_bytes(each.size)}"
    if len(tensors) > len(shown):
        yield f"  and {len(tensors) - len(shown):,} more: --json has them all"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count:,} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"
