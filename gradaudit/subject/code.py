"""The user's own code: ``path/to/file.py:name`` and ``package.module:name``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from gradaudit.errors import GradauditError, ModelError, UsageError
from gradaudit.subject.source_files import is_installed, is_ours
from gradaudit.telling import did_you_mean, missing, told


def is_code(spec: str) -> bool:
    """Whether ``spec`` names code; what exists as a file under that very name does not."""
    home, colon, name = spec.rpartition(":")
    if not colon or not name or Path(spec).exists():
        return False
    if home.endswith(".py"):
        return True
    return all(part.isidentifier() for part in (*home.split("."), *name.split(".")))


class UserCode:
    """Code loaded for one audit: every file runs once, afresh, whatever options name it."""

    def __init__(self) -> None:
        self._loaded: dict[str, ModuleType] = {}

    def find(self, spec: str) -> Any:
        """The object that ``spec`` names.

        Raises ``UnreadableFile`` for a missing file, ``UsageError`` for a missing name, and
        ``ModelError`` where the code itself raises.
        """
        home, _, name = spec.rpartition(":")
        if home not in self._loaded:
            run = _run_file if home.endswith(".py") else _import_module
            self._loaded[home] = run(home)
        found: Any = self._loaded[home]
        for part in name.split("."):
            if not hasattr(found, part):
                raise _no_such_name(home, part, found)
            found = getattr(found, part)
        return found

    def module(self, spec: str) -> ModuleType | None:
        """The module that what ``spec`` names was found in; ``None`` where it was not asked for."""
        return self._loaded.get(spec.rpartition(":")[0])


def call(function: Callable[..., Any], label: str, *arguments: Any) -> Any:
    """``function(*arguments)``; what it raises becomes one line with ``label`` and the place."""
    try:
        return function(*arguments)
    except GradauditError:
        raise
    except (Exception, SystemExit) as error:
        raise user_error(label, error) from error


def user_error(label: str, error: BaseException) -> ModelError:
    """``label raised ValueError: text (net.py:12)``."""
    return ModelError(f"{label} raised {told(error)}{_place(error)}")


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f" ({Path(error.filename or '?').name}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if not (is_ours(f.filename) or f.filename.startswith("<frozen"))]
    mine = [f for f in outside if not is_installed(f.filename)]
    if not outside:
        return ""
    frame = (mine or outside)[-1]
    return f" ({Path(frame.filename).name}:{frame.lineno})"


def _run_file(home: str) -> ModuleType:
    path = Path(home)
    if not path.is_file():
        raise missing(path)
    path = path.resolve()
    import_path(path.parent)
    name = f"gradaudit_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{home} cannot be loaded as Python code")
    linecache.checkcache(str(path))  # the lines quoted in errors are those of now
    module = importlib.util.module_from_spec(spec)
    # dataclasses and inspect look classes' modules up here; a later load replaces it
    sys.modules[name] = module
    try:
        # not loader.exec_module: a cached .pyc is trusted for a whole second after an edit
        code = compile(path.read_bytes(), str(path), "exec")
        call(exec, home, code, vars(module))
    except (SyntaxError, ValueError) as error:
        del sys.modules[name]
        raise user_error(home, error) from None
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(home: str) -> ModuleType:
    import_path(Path.cwd())
    try:
        return importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name and (home == error.name or home.startswith(error.name + ".")):
            raise UsageError(
                f"there is no module {error.name!r}",
                next_step="run from the folder that holds it, or name the file: path/file.py:name",
            ) from None
        raise user_error(home, error) from error
    except (Exception, SystemExit) as error:
        raise user_error(home, error) from error


def import_path(folder: Path) -> None:
    """Let code in ``folder`` import its neighbours, as ``python folder/script.py`` would.

    A module of an earlier audit that bears the name of a neighbour here is forgotten, so that the
    neighbour is found; installed packages and the standard library stay.
    """
    for place in (str(Path.cwd()), str(folder)):
        if place in sys.path:
            sys.path.remove(place)
        sys.path.insert(0, place)
    importlib.invalidate_caches()
    for name in [item.stem for item in folder.glob("*.py")] + [
        item.parent.name for item in folder.glob("*/__init__.py")
    ]:
        known = getattr(sys.modules.get(name), "__file__", None)
        if known is None or is_installed(known) or Path(known).is_relative_to(folder):
            continue
        for loaded in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
            del sys.modules[loaded]


def _no_such_name(home: str, name: str, owner: Any) -> UsageError:
    names = [item for item in dir(owner) if not item.startswith("_")]
    return UsageError(f"{home} has no {name!r}", next_step=did_you_mean(name, names, cutoff=0.5))
