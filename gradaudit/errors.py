"""What can go wrong before an audit has a result: one family, one line each."""

from __future__ import annotations


class GradauditError(Exception):
    """A run that cannot go on, told in one line: what failed, expected, found, next step.

    The command line prints ``str(error)`` and exits with :attr:`exit_code`.
    """

    exit_code = 2

    def __init__(
        self, what: str, *, expected: str = "", found: str = "", next_step: str = ""
    ) -> None:
        self.what, self.expected, self.found, self.next_step = what, expected, found, next_step
        super().__init__(self.__str__())

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.found:
            parts.append(f"found {self.found}")
        if self.next_step:
            parts.append(self.next_step)
        return " ".join("; ".join(parts).split())


class UsageError(GradauditError):
    """Options that contradict each other, or a configuration that cannot be read."""


class UnreadableFile(GradauditError):
    """A file that is missing, truncated, or not of any kind gradaudit knows."""


class RefusedFile(GradauditError):
    """A file that would have to run code to be opened, and was not trusted."""


class BadData(GradauditError):
    """A data sample the model cannot be given."""


class VerdictError(GradauditError, AssertionError):
    """An audit whose verdict is not what was asked for, as a test is told it: several lines.

    To ``unittest`` and ``pytest`` a failed assertion. ``exit_code`` is that of the command: 1 for
    findings, 3 where too little could be measured to judge.
    """

    def __init__(self, complaint: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(complaint)

    def __str__(self) -> str:
        return self.what


class ModelError(GradauditError):
    """The user's own code raised: a factory, a forward pass, a loss."""
