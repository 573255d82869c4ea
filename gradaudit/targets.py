"""Which models a run is about, and what holds for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from gradaudit.config import Config, Model, Part, load_config
from gradaudit.errors import UsageError
from gradaudit.given import Given, given
from gradaudit.settings import Settings
from gradaudit.telling import did_you_mean


@dataclass(frozen=True)
class Target:
    """A model to be audited, and how."""

    name: str  # as configured, else as the user named the model
    model: str
    settings: Settings
    fail_on: str = "fail"


@dataclass(frozen=True)
class Chosen:
    """A model of a run before its settings are made."""

    name: str
    model: str
    given: Given
    origin: str = ""  # of its table, where it has one

    @property
    def target(self) -> Target:
        """The model with its settings; raises ``UsageError`` for a recipe that is none."""
        return Target(self.name, self.model, self.given.settings(), self.given.fail_on)


def configuration(config_file: str | None, *, isolated: bool) -> Config:
    """The configuration that the command line asks for."""
    if isolated:
        if config_file:
            raise UsageError("--isolated and --config contradict each other", next_step="drop one")
        return Config()
    return load_config(Path.cwd(), Path(config_file) if config_file else None)


def choose(
    ctx: click.Context, config: Config, named: Sequence[str], *, excluding: bool = True
) -> tuple[Chosen, ...]:
    """The models that are ``named``, else all that are configured; without those that are excluded.

    A name is that of a configured model, else a MODEL. What tables are about, as the weights of one
    or the file that holds the code of several, is audited as these say. Raises ``UsageError`` for a
    name that is neither, and where there is nothing to choose.
    """
    if not named and not config.models:
        raise click.MissingParameter(ctx=ctx, param=ctx.command.params[0], param_hint="'MODEL'")
    wanted: list[tuple[str, Model | None]] = [(model.name, model) for model in config.models]
    if named:
        left = [name for name in named if not excluding or not _excluded(name, config)]
        wanted = list(_resolved(config, left))
    chosen: dict[str, Chosen] = {}
    for name, model in wanted:
        part = model.part if model else Part()
        spec, origin = (model.model, model.origin) if model else (name, "")
        read = given(ctx, config.part, part)
        chosen.setdefault(name, Chosen(name, spec, read, origin))
    return tuple(chosen.values())


def _excluded(name: str, config: Config) -> bool:
    """Whether ``exclude`` covers the file; what is named as it is configured is meant."""
    configured = any(model.name == name for model in config.models)
    return not configured and config.excludes(Path(_home(name)))


def _resolved(config: Config, named: Sequence[str]) -> Iterator[tuple[str, Model | None]]:
    by_name = {model.name: model for model in config.models}
    for name in named:
        if name in by_name:
            yield name, by_name[name]
            continue
        about = [model for model in config.models if _is_about(model, name)]
        if about:
            yield from ((model.name, model) for model in about)
            continue
        if config.models and ":" not in name and not Path(name).exists():
            raise _unknown(name, list(by_name))
        yield name, None


def _is_about(model: Model, name: str) -> bool:
    """Whether the table is about this MODEL, or about code in the file of that name."""
    if _place(model.model) == _place(name):
        return True
    return name.endswith(".py") and _place(_home(model.model)) == _place(name)


def _home(spec: str) -> str:
    """The file that a MODEL names, code or not."""
    home, colon, _ = spec.rpartition(":")
    return home if colon and home.endswith(".py") and not Path(spec).exists() else spec


def _place(spec: str) -> tuple[Path | str, str]:
    """The same for two ways of naming one file, or one name in it."""
    home = _home(spec)
    named = spec[len(home) :] if home != spec else ""
    return (spec if ":" in home else Path(home).resolve()), named


def _unknown(name: str, names: Sequence[str]) -> UsageError:
    return UsageError(
        f"there is no file and no configured model {name!r}",
        next_step=did_you_mean(name, names, f"configured are {', '.join(names)}"),
    )
