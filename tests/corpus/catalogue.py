"""All cases: a module of ``tune`` or ``held`` holds one family, or a few that share their data."""

from __future__ import annotations

import hashlib
import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from tests.corpus.case import Case

HALVES = ("tune", "held")
HOME = Path(__file__).parent


@cache
def modules(half: str) -> tuple[str, ...]:
    """Names of the modules of one half."""
    found = pkgutil.iter_modules([str(HOME / half)])
    return tuple(sorted(item.name for item in found if not item.name.startswith("_")))


@cache
def cases_of(half: str, module: str) -> tuple[Case, ...]:
    """The cases of one module; their names are unique in the corpus."""
    return tuple(import_module(f"tests.corpus.{half}.{module}").cases())


@cache
def cases(half: str) -> tuple[Case, ...]:
    """The cases of one half, in order."""
    return tuple(case for name in modules(half) for case in cases_of(half, name))


def digest(half: str, module: str) -> str:
    """Of the code that a module's outcomes depend on: results of other code are trained anew."""
    files = [HOME / half / f"{module}.py", HOME / "training.py", HOME / "case.py"]
    shared = sorted((HOME / half).glob("_*.py"))
    text = b"".join(path.read_bytes() for path in [*files, *shared])
    return hashlib.sha256(text).hexdigest()[:16]
