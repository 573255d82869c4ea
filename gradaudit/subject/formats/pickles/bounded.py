"""An unpickler whose time and memory are bounded by the size of what it reads.

The one in C allocates what a length or a memo index claims, before it has read a byte of it, and
hashes a tuple of tuples that all are the same one as often as it is met: a hundred bytes are
enough for terabytes, or for years. A key is hashed again each time it is used.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

_LIGHT = 64  # entries of a tuple that are counted anew each time
_HEAVY = 10_000_000  # entries that a tuple may have in all, counted as often as they are met
_DEEP = 500  # tuples within tuples
_FREE = 1 << 20  # entries copied out of what the memo holds


class BoundedUnpickler(pickle._Unpickler):
    """Python's own unpickler in Python: its memo is a dict, and it reads before it allocates.

    Raises ``pickle.UnpicklingError`` for tuples that no honest pickle holds.
    """

    stack: list[Any]  # these four are made by `load`
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    proto: int = 0

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {**pickle._Unpickler.dispatch}

    def __init__(self, source: io.BytesIO) -> None:
        super().__init__(source, encoding="utf-8")
        here, size = source.tell(), source.seek(0, io.SEEK_END)  # getbuffer() would copy it all
        source.seek(here)
        self._left = _FREE + size
        self._heavy: dict[int, tuple[tuple[Any, ...], int, int]] = {}  # kept alive: ids are theirs

    def spend(self, part: Any) -> None:
        """Count the entries of what is about to be copied: one part may be met again and again.

        Raises ``pickle.UnpicklingError`` once they are more than the stream has bytes.
        """
        self._left -= len(part) if isinstance(part, (list, tuple, dict, str, bytes)) else 0
        if self._left < 0:
            raise pickle.UnpicklingError("the same parts are copied over and over")

    def _weighed(self) -> None:
        """Count the tuple on top of the stack, with what lies in it."""
        made: tuple[Any, ...] = self.stack[-1]
        entries, depth = self._weight(made)
        if entries > _HEAVY or depth > _DEEP:
            raise pickle.UnpicklingError(f"tuples within tuples: {depth} deep, {entries} entries")
        if entries > _LIGHT or depth > _LIGHT:
            self._heavy[id(made)] = (made, entries, depth)

    def _weight(self, made: tuple[Any, ...]) -> tuple[int, int]:
        known = self._heavy.get(id(made))
        if known is not None:
            return known[1:]
        entries, depth = 1 + len(made), 0
        for item in made:
            if type(item) is tuple:
                more, below = self._weight(item)
                entries, depth = entries + more, max(depth, below)
        return entries, depth + 1

    def _load_bytearray(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        content = self.read(size) if size < 1 << 62 else b""
        if len(content) < size:
            raise pickle.UnpicklingError(f"a bytearray of {size} bytes is cut short")
        self.stack.append(bytearray(content))


def check_keys(keys: Iterable[object]) -> None:
    """Raise ``pickle.UnpicklingError`` for a key, or an item of a set, that takes long to hash."""
    if any(map(_costly, keys)):
        raise pickle.UnpicklingError("a key of nested or many parts")


def table(pairs: Any = ()) -> dict[Any, Any]:
    """The entries that ``OrderedDict`` is called with, once their keys are known to be cheap."""
    if isinstance(pairs, dict):
        return dict.copy(pairs)
    if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
        return {}
    check_keys(key for key, _ in pairs)
    return dict(pairs)


def _is_pair(item: object) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2


def _after_keys(
    load: Callable[[Any], None], keys: Callable[[list[Any]], Iterable[Any]]
) -> Callable[[Any], None]:
    def checked(unpickler: BoundedUnpickler) -> None:
        check_keys(keys(unpickler.stack))
        load(unpickler)

    return checked


def _costly(key: object) -> bool:
    """Whether it takes long to hash: honest keys are names, numbers and short tuples of those."""
    if isinstance(key, int):
        return abs(key) >> 64 > 0  # hashed digit by digit, and made to collide at will
    if not isinstance(key, (tuple, frozenset)):
        return False
    nested = any(isinstance(part, (tuple, frozenset)) for part in key)
    return len(key) > _LIGHT or nested or any(map(_costly, key))


def _then_weighed(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def loaded(unpickler: BoundedUnpickler) -> None:
        load(unpickler)
        unpickler._weighed()

    return loaded


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    BoundedUnpickler.dispatch[_code[0]] = _then_weighed(BoundedUnpickler.dispatch[_code[0]])
BoundedUnpickler.dispatch[pickle.BYTEARRAY8[0]] = BoundedUnpickler._load_bytearray
for _code, _keys in (
    (pickle.SETITEM, lambda stack: stack[-2:-1]),
    (pickle.SETITEMS, lambda stack: stack[::2]),
    (pickle.DICT, lambda stack: stack[::2]),
    (pickle.ADDITEMS, lambda stack: stack),
    (pickle.FROZENSET, lambda stack: stack),
):
    BoundedUnpickler.dispatch[_code[0]] = _after_keys(BoundedUnpickler.dispatch[_code[0]], _keys)
