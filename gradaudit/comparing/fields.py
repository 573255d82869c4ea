"""A JSON file written by others, read field by field; what is wrong is told by its path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradaudit.errors import UnreadableFile
from gradaudit.records import Estimate, Limit
from gradaudit.telling import printable, quoted

_LONGEST = 10_000  # letters in a name


@dataclass(frozen=True)
class Field:
    """A value in ``file``, at ``path``; ``None`` where it is null or absent.

    Every method raises :class:`gradaudit.errors.UnreadableFile` where the value is of another kind.
    """

    value: Any
    file: str
    path: str = ""

    def wrong(self, expected: str) -> UnreadableFile:
        """The error that something else stands here."""
        where = f"{self.file}: {printable(self.path, 200)}" if self.path else self.file
        found = "nothing" if self.value is None else quoted(self.value)
        return UnreadableFile(f"{where} cannot be read", expected=expected, found=found)

    @property
    def given(self) -> bool:
        """Whether there is anything but null."""
        return self.value is not None

    def at(self, *keys: str) -> Field:
        """The field under these keys; absent where any on the way is."""
        found = self
        for key in keys:
            found = Field(found._object().get(key), found.file, _joined(found.path, key))
        return found

    def entries(self) -> list[tuple[str, Field]]:
        """Names and fields of an object; none where it is absent."""
        if any(len(key) > _LONGEST for key in self._object()):
            raise UnreadableFile(
                f"{self.file} cannot be read", expected=f"names of at most {_LONGEST:,} letters"
            )
        return [
            (key, Field(value, self.file, _joined(self.path, key)))
            for key, value in self._object().items()
        ]

    def items(self) -> list[Field]:
        """The fields of an array; none where it is absent."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [Field(value, self.file, f"{self.path}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        """A string; empty where it is absent."""
        if self.value is None:
            return ""
        if not isinstance(self.value, str) or len(self.value) > _LONGEST:
            raise self.wrong("a text")
        return self.value

    def one_of(self, choices: Sequence[str]) -> str:
        """One of a few words; it cannot be absent."""
        if self.value not in choices:
            raise self.wrong(" or ".join(choices))
        return str(self.value)

    def number(self) -> float:
        """A finite number; it cannot be absent."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.wrong("a number")
        try:
            number = float(self.value)
        except OverflowError:
            raise self.wrong("a number that a float can hold") from None
        if not math.isfinite(number):
            raise self.wrong("a finite number")
        return number

    def maybe_number(self) -> float | None:
        """A finite number, or ``None`` where it is absent."""
        return self.number() if self.given else None

    def whole(self) -> int | None:
        """A whole number, or ``None`` where it is absent."""
        if self.value is None:
            return None
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.wrong("a whole number")
        return self.value

    def estimate(self) -> Estimate | None:
        """A value with its interval, or ``None`` where it is absent."""
        if not self.given:
            return None
        low, high = self.at("low").maybe_number(), self.at("high").maybe_number()
        if low is not None and high is not None and low > high:
            raise self.wrong("low <= high")
        return Estimate(self.at("value").number(), low, high, self.at("unit").text())

    def limit(self) -> Limit | None:
        """A limit, or ``None`` where it is absent."""
        if not self.given:
            return None
        return Limit(self.at("value").number(), self.at("unit").text(), self.at("source").text())

    def _object(self) -> dict[str, Any]:
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
