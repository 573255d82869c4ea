"""A hostile case, the limits it runs under, and what has to hold afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.command import CHECKOUT

SECONDS = 10.0  # wall clock; twice that is waited for, since machines may be busy
MEMORY = 600 << 20  # bytes of resident memory beyond what the imports take
SPACE = 3 << 30  # bytes of address space beyond what the imports map
LINE = 2_000  # characters of the longest message


@dataclass(frozen=True)
class Place:
    """Where a case may write: its files, and the canary that only executed code would make."""

    root: Path

    @property
    def files(self) -> Path:
        """The case's files go here."""
        return self.root / "files"

    @property
    def work(self) -> Path:
        """The command's working folder."""
        return self.root / "work"

    @property
    def canary(self) -> Path:
        """Exists if code from a file was executed."""
        return self.root / "cage" / "canary"

    @property
    def command(self) -> str:
        """A shell command that makes the canary."""
        return f"touch {self.canary}"

    @property
    def code(self) -> str:
        """A Python expression that makes the canary."""
        return f"open({str(self.canary)!r}, 'w').close()"


Make = Callable[[Place], "Path | Sequence[str | Path]"]


@dataclass(frozen=True)
class Case:
    """One hostile or broken input: ``make`` writes it and returns what the command is given."""

    name: str
    make: Make
    says: str  # pattern in the one line
    codes: frozenset[int] = frozenset({2})
    armed: bool = False  # opened by a careless program, it makes the canary


def sound(name: str, make: Make) -> Case:
    """A case that may as well be audited: odd, but harmless."""
    return Case(name, make, "", frozenset({0, 1, 2, 3}))


@dataclass(frozen=True)
class Outcome:
    """What a command did in its child process."""

    code: int
    hung: bool
    peak: int
    seconds: float
    cpu: float
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """Lines on standard error."""
        return self.err.splitlines()


@dataclass
class Zygote:
    """The process that forks a child for every command."""

    process: subprocess.Popen[str]
    rss: int = 0

    @classmethod
    def start(cls) -> Zygote:
        """Start it; ready once everything is imported."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.zygote"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        zygote = cls(process)
        ready = zygote._answer()
        assert ready["ready"], f"{ready['threads']} threads before the first fork"
        zygote.rss = ready["rss"]
        return zygote

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the zygote is gone"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, cwd: Path, **request: Any) -> Outcome:
        """Let a child do what is requested."""
        request = {"cwd": str(cwd), "seconds": 2 * SECONDS, "space": SPACE, **request}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Outcome(**self._answer())

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def prepared(root: Path) -> Place:
    """An empty place."""
    place = Place(root)
    for folder in (place.files, place.work, place.canary.parent):
        folder.mkdir(parents=True)
    return place


def listing(root: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below ``root``: mode, size and time of change; links are not followed."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in (*folders, *files):
            state = os.lstat(os.path.join(folder, name))
            size = 0 if name in folders else state.st_size
            key = os.fsdecode(os.path.join(folder, name))
            found[key] = (state.st_mode, size, 0 if name in folders else state.st_mtime_ns)
    return found


def run_case(case: Case, place: Place, zygote: Zygote) -> Outcome:
    """Make the case, run ``gradaudit`` on it, and hold it to all that every case has to keep."""
    made = case.make(place)
    arguments = [str(made)] if isinstance(made, Path) else [str(part) for part in made]
    before = listing(place.root)
    # what may be audited costs less without a page; what may not shall not write one
    options = ["--effort", "quick", *(["--no-html"] if len(case.codes) > 1 else [])]
    outcome = zygote.ask(place.work, arguments=[*arguments, *options])
    assert not place.canary.exists(), "code from the file was executed"
    check(outcome, case.codes, zygote.rss)
    if outcome.code == 2:
        assert listing(place.root) == before, "something was written"
        check_line(outcome)
        assert re.search(case.says, outcome.err), outcome.err
    return outcome


def check(outcome: Outcome, codes: frozenset[int], rss: int) -> None:
    """It ended by itself, in time, in little memory, and as it should."""
    assert not outcome.hung, f"it hung: {outcome.err}"
    # on a busy machine the clock runs on while the process waits for its turn
    assert min(outcome.seconds, outcome.cpu) < SECONDS, f"{outcome.seconds:.1f} s"
    assert outcome.peak < rss + MEMORY, f"{(outcome.peak - rss) >> 20} MB; {outcome.err}"
    assert "Traceback" not in outcome.err
    assert outcome.code in codes, f"exit code {outcome.code}: {outcome.err}"
    assert "internal error" not in outcome.err, outcome.err
    assert "crashed" not in outcome.err, outcome.err
    assert "was killed" not in outcome.err, outcome.err


def check_line(outcome: Outcome) -> None:
    """Standard error is one bearable line, and standard output is empty."""
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    line = outcome.err[:-1]
    assert line.startswith("gradaudit: error: "), outcome.err
    assert line.isprintable(), repr(line)
    assert len(line) <= LINE, f"{len(line)} characters"
