"""The bounded unpickler, with a look at every key and at every state that is given to an object."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from gradaudit.subject.formats.bounded_pickle import BoundedUnpickler

_ORIGINAL: dict[int, Callable[[Any], None]] = {**BoundedUnpickler.dispatch}
_PARTS = 64  # of a tuple that is a key


class StrictUnpickler(BoundedUnpickler):
    """Raises ``pickle.UnpicklingError`` for keys that are costly to hash."""

    stack: list[Any]
    proto: int = 0

    def check_state(self, instance: Any, state: Any) -> None:
        """Called with every object that is about to be given a state."""

    def _build(self) -> None:
        self.check_state(self.stack[-2], self.stack[-1])
        _original(pickle.BUILD, self)

    def _set_item(self) -> None:
        check_keys(self.stack[-2:-1])
        _original(pickle.SETITEM, self)

    def _set_items(self) -> None:
        check_keys(self.stack[::2])
        _original(pickle.SETITEMS, self)

    def _dict(self) -> None:
        check_keys(self.stack[::2])
        _original(pickle.DICT, self)

    def _add_items(self) -> None:
        check_keys(self.stack)
        _original(pickle.ADDITEMS, self)

    def _frozen_set(self) -> None:
        check_keys(self.stack)
        _original(pickle.FROZENSET, self)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_ORIGINAL,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FROZENSET[0]: _frozen_set,
    }


def _original(opcode: bytes, unpickler: StrictUnpickler) -> None:
    _ORIGINAL[opcode[0]](unpickler)


def check_keys(keys: Iterable[Any]) -> None:
    """Raises ``pickle.UnpicklingError`` for a key of nested or very many parts."""
    for key in keys:
        if isinstance(key, (tuple, frozenset)) and (
            len(key) > _PARTS or any(isinstance(part, (tuple, frozenset)) for part in key)
        ):
            raise pickle.UnpicklingError("a key of nested or many parts")
