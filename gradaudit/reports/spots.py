"""Where in the repository a finding is shown: a file that exists there, and a line."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from gradaudit.records import Report, Run, Where

_DRIVE = re.compile(r"[A-Za-z]:|\\\\")  # how absolute paths of Windows start
_LAST_RESORT = "README.md"


@dataclass(frozen=True)
class Spot:
    """A file relative to the repository's root, with forward slashes, and a line from 1 on."""

    file: str
    line: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def spot(run: Run, report: Report | None, where: Where | None = None) -> Spot:
    """The place itself, else the code that makes the model, else a file that stands for it.

    That is the configuration file, else ``run.anchor``, else the model's own file. What lies
    outside the repository is passed over: readers of these formats take none such.
    """
    places: list[tuple[str, int | None]] = [(where.file, where.line)] if where else []
    if report is not None:
        home = report.subject.source.rpartition(":")[0]
        places.append((report.subject.file, report.subject.line))
        places.append((home if home.endswith(".py") else "", 1))
    places += [(run.config, 1), (run.anchor, 1)]
    if report is not None and report.subject.format != "code":
        places.append((report.subject.source, 1))
    for file, line in places:
        inside = _inside(run.folder, file)
        if inside:
            return Spot(inside, max(1, line or 1))
    return Spot(_LAST_RESORT)


def _inside(folder: str, file: str) -> str:
    """The path from the repository's root; empty where it leads out of it."""
    if not file or file.startswith("/") or _DRIVE.match(file):
        return ""
    path = posixpath.normpath(posixpath.join(folder, file))
    return "" if path == "." or path.split("/")[0] == ".." else path
