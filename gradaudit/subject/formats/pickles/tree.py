"""Plain containers out of a pickle: they may hold themselves, or one part billions of times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradaudit.errors import RefusedFile
from gradaudit.subject.formats.next_steps import HOSTILE_FILE

_DEEP = 100


def check_tree(content: Any, path: Path) -> None:
    """Raise ``RefusedFile`` where walking through dicts, lists and tuples would hardly end.

    Honest containers have no more entries than the file has bytes.
    """
    left, most = [(content, 0)], path.stat().st_size
    seen = 0
    while left:
        item, depth = left.pop()
        if not isinstance(item, (dict, list, tuple, set, frozenset)):
            continue
        seen += len(item)
        if seen > most or depth > _DEEP:
            raise RefusedFile(
                f"{path.name} holds containers within containers",
                expected=f"at most {most:,} entries in all, and {_DEEP} levels",
                next_step=HOSTILE_FILE,
            )
        inside = item.values() if isinstance(item, dict) else item
        left.extend((part, depth + 1) for part in inside)
