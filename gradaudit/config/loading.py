"""The configuration in force: the nearest file that has one, or the one that is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from gradaudit.config.document import Table, read_document
from gradaudit.config.keys import OPTIONS, RUN_WIDE, model_spec, refuse_trust, texts
from gradaudit.config.part import JUDGING, Part, read_part
from gradaudit.errors import UsageError

FILES = (".gradaudit.toml", "gradaudit.toml", "pyproject.toml")  # of one folder the first counts
_TABLE = ("tool", "gradaudit")


@dataclass(frozen=True)
class Model:
    """One ``[[tool.gradaudit.model]]``: its name, the model it is about, and what holds for it."""

    name: str
    model: str  # MODEL, from the working folder
    part: Part
    origin: str  # file and line


@dataclass(frozen=True)
class Config:
    """A configuration file, read."""

    path: Path | None = None
    part: Part = field(default_factory=Part)
    models: tuple[Model, ...] = ()
    exclude: tuple[str, ...] = ()  # globs, from the file's folder

    def excludes(self, path: Path) -> bool:
        """Whether a glob of ``exclude`` covers the path, or a folder that it lies in."""
        if self.path is None or not self.exclude:
            return False
        try:
            below = path.resolve().relative_to(self.path.resolve().parent)
        except ValueError:
            return False
        holders = [below, *below.parents][:-1]
        return any(
            fnmatchcase(name, glob.rstrip("/"))
            for holder in holders
            for name in (holder.as_posix(), holder.name)
            for glob in self.exclude
        )


def load_config(start: Path, file: Path | None = None) -> Config:
    """The configuration in force at ``start``, or that of ``file``.

    The nearest folder at or above ``start`` counts that has a ``.gradaudit.toml``, a
    ``gradaudit.toml`` or a ``pyproject.toml`` with the table ``[tool.gradaudit]``. Raises
    ``UsageError``, of one line with file and key, for malformed TOML, an unknown key or rule (with
    the nearest known one), a value of the wrong kind, and ``trust``, which only the command line
    may give.
    """
    if file is not None:
        return _named(file)
    start = start.resolve()
    for folder in [start, *start.parents]:
        for name in FILES:
            path = folder / name
            if not path.is_file():
                continue
            table = read_document(path, table=_TABLE if name == "pyproject.toml" else ())
            if table is not None:
                return _read(table)
    return Config()


def _named(file: Path) -> Config:
    if not file.is_file():
        found = "no file of text" if file.exists() else "no such file"
        raise UsageError(f"{file} cannot be read", found=found)
    table = read_document(file, table=_TABLE)
    if table is None and file.name == "pyproject.toml":
        raise UsageError(f"{file} has no [tool.gradaudit]")
    table = table or read_document(file)
    assert table is not None
    return _read(table)


def _read(table: Table) -> Config:
    refuse_trust(table)
    part = read_part(table, (*OPTIONS, *JUDGING, "model", "exclude"))
    models = tuple(_models(table, part)) if "model" in table.values else ()
    names: dict[str, Model] = {}
    for model in models:
        if names.setdefault(model.name, model) is not model:
            raise UsageError(
                f"{table.path}: two models are called {model.name!r}",
                expected="a name for each",
                found=f"{names[model.name].origin} and {model.origin}",
            )
    exclude: tuple[str, ...] = ()
    if "exclude" in table.values:
        exclude = texts("exclude", table, "a glob or a list of globs")
    return Config(table.path, part, models, exclude)


def _models(table: Table, lower: Part) -> Iterator[Model]:
    found = table.values["model"]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        header = f"{table.label.strip('[]')}.model".lstrip(".")
        raise table.wrong("model", f"tables [[{header}]], one for each model", found)
    for number in range(len(found)):
        yield _model(table.below("model", number), table, lower)


def _model(table: Table, whole: Table, lower: Part) -> Model:
    refuse_trust(table)
    for key in table.values:
        if key in RUN_WIDE:
            raise UsageError(
                f"{table.place(key)}: {key} holds for the whole run, not for one model",
                next_step=f"set it in {whole.label or 'the file itself'}",
            )
    for key in ("name", "model"):
        if key not in table.values:
            raise UsageError(
                f"{table.place()}: {table.label} has no {key}",
                expected=f'{key} = "..."; each model has a name and a model',
            )
    name = table.values["name"]
    if not isinstance(name, str) or not name.strip() or name.startswith("-") or "\n" in name:
        raise table.wrong("name", "text that does not start with -", name)
    own = [key for key in OPTIONS if key not in RUN_WIDE]
    part = read_part(
        Table(table.path, _without_names(table), table.keys, table.lines),
        (*own, *JUDGING),
        "the keys are name, model, rules, layers, tolerances and the long option names",
        lower,
    )
    return Model(name.strip(), model_spec(table), part, table.origin())


def _without_names(table: Table) -> dict[str, object]:
    return {key: value for key, value in table.values.items() if key not in ("name", "model")}
