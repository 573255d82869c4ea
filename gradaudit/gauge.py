"""The line on standard error that says how far an audit is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from gradaudit.pacing import QUIET, Progress, time_left

_BAR = 16  # letters
_SAID_AFTER = 3.0  # seconds, from which on time that nobody can foretell is counted up


@contextmanager
def shown(*, quiet: bool) -> Iterator[Progress]:
    """What is being done, how far it is and how long it takes yet; nothing in a pipe."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        yield QUIET
        return
    progress = Progress()
    with Gauge(progress, console):
        yield progress


class Gauge(Bars):
    """One line that shows what a :class:`gradaudit.pacing.Progress` says whenever it is drawn."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._told = progress
        line = TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        )
        super().__init__(
            SpinnerColumn(), BarColumn(_BAR), line, console=console, transient=True, expand=True
        )
        self.add_task(progress.what, total=None)

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bar and the words as of now."""
        for task in self.tasks:
            task.total = 1.0 if self._told.known else None
            task.completed = self._told.done
            task.description = words(self._told)
        yield self.make_tasks_table(self.tasks)


def words(told: Progress) -> str:
    """``Measuring, 8 s left: spectral norms, weight 3 of 50``."""
    left = time_left(told.left) if told.known else ""
    head = ", ".join(filter(None, (told.heading, told.part, left)))
    doing = ", ".join(filter(None, (told.what, told.detail)))
    if not left and told.spent > _SAID_AFTER:
        doing += f" ({told.spent:.0f} s)"
    return f"{head}: {doing}" if head else doing
