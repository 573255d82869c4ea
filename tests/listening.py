"""A listener to an audit's progress."""

from __future__ import annotations

from gradaudit.pacing import Progress


class Listening(Progress):
    """Notes every phase that begins, and whether it was planned."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, str, bool]] = []  # part, what, planned
        self.details: list[str] = []

    @property
    def said(self) -> list[str]:
        """What was done, in order."""
        return [what for _, what, _ in self.heard]

    def __call__(self, what: str, phase: str | None = None) -> None:
        super().__call__(what, phase)
        self.heard.append((self.part, what, (phase or what) in self._phases))

    def within(self, share: float, detail: str = "") -> None:
        super().within(share, detail)
        self.details.append(detail)
