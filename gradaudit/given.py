"""What was asked for: the command line over a model's table over the file over the defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gradaudit.config import Part
from gradaudit.errors import UsageError
from gradaudit.recipes import overlay, read_recipe
from gradaudit.records import Recipe
from gradaudit.settings import Settings

_RENAMED = {"json": "json_file", "recipe": "recipe_file"}  # as commands call them
_TO_FILES = ("output", "json_file", "sarif", "junit", "markdown", "write_baseline")
_OF_PART = ("recipe", "limits", "tolerances", "severities", "layers", "reasons")
_ARGUMENTS = "gradaudit.arguments"


class Level(IntEnum):
    """Where an option's value was set; the higher goes before the lower."""

    DEFAULT = 0
    FILE = 1
    MODEL = 2
    STATED = 3


class Command(click.Command):
    """A command that can be read again with other defaults, as each model of a run has."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the arguments."""
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


@dataclass(frozen=True)
class Given:
    """The options of one model, each with the level it was set at."""

    options: Mapping[str, Any]
    levels: Mapping[str, Level]
    part: Part  # what is configured, of both levels

    def level(self, name: str) -> Level:
        """Where the option was set."""
        return self.levels.get(name, Level.DEFAULT)

    @property
    def fail_on(self) -> str:
        """The verdict that ends in 1."""
        return self.options.get("fail_on") or "fail"

    def settings(self) -> Settings:
        """The settings asked for; raises ``UsageError`` for a recipe or a rule that is none."""
        from gradaudit.rules import chosen_rules

        known = {f.name for f in dataclasses.fields(Settings)} - {*_OF_PART}
        rest = {k: v for k, v in self.options.items() if k in known and v is not None}
        named = (*self.options["select"], *self.options["ignore"])
        reasons = self.part.reasons
        settings = Settings(
            recipe=self._recipe(),
            limits=dict(self.part.limits),
            severities=self.part.severities,
            layers=self.part.layers,
            reasons={code: reasons[code] for code in named if code in reasons},
            tolerances=dict(self.part.tolerances),
            **rest,
        )
        chosen_rules(settings)  # what is misspelt is told before any work
        return settings

    def _recipe(self) -> Recipe:
        """The recipe file with single options over it, but for those of a lower level."""
        names = {f.name for f in dataclasses.fields(Recipe)}
        kind = self.level("optimizer")  # what was set lower, for another kind, it may not take
        names -= {name for name in ("momentum", "betas") if self.level(name) < kind}
        given = {k: v for k, v in self.options.items() if k in names and v is not None}
        if not self.options["recipe_file"]:
            return Recipe(**given)
        recipe, file = read_recipe(Path(self.options["recipe_file"])), self.level("recipe_file")
        over = {k: v for k, v in given.items() if self.level(k) >= file}
        under = {k: v for k, v in given.items() if k not in over}
        return dataclasses.replace(overlay(Recipe(**under), recipe), **over)


def given(ctx: click.Context, file: Part | None = None, model: Part | None = None) -> Given:
    """The command line once more, with the file's and the model's values as defaults.

    Raises ``UsageError`` where options contradict each other in one place, and for a configured
    value that the option cannot have, with its place.
    """
    file, model = file or Part(), model or Part()
    part = model.over(file)
    values = {_RENAMED.get(key, key): value for key, value in part.options.items()}
    origins = {_RENAMED.get(key, key): key for key in part.options}
    try:
        read = ctx.command.make_context(
            ctx.info_name, list(ctx.meta[_ARGUMENTS]), parent=ctx.parent, default_map=values
        )
    except click.BadParameter as error:
        name = error.param.name if error.param is not None else None
        if name is None or name not in origins or _is_stated(error):
            raise
        key = origins[name].replace("_", "-")
        place = part.origins[origins[name]]
        raise UsageError(f"{place}: {key}: {error.message.rstrip('.')}") from None
    levels = {name: _level(name, read, model, origins) for name in read.params}
    return Given(_settled(dict(read.params), levels), levels, part)


def _is_stated(error: click.BadParameter) -> bool:
    """Whether the command line gave the value that click objects to."""
    ctx, param = error.ctx, error.param
    if ctx is None or param is None or param.name is None:
        return True
    return ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE


def _level(name: str, read: click.Context, model: Part, origins: Mapping[str, str]) -> Level:
    source = read.get_parameter_source(name)
    if source is ParameterSource.COMMANDLINE:
        return Level.STATED
    if source is not ParameterSource.DEFAULT_MAP:
        return Level.DEFAULT
    return Level.MODEL if origins[name] in model.options else Level.FILE


def _settled(options: dict[str, Any], levels: Mapping[str, Level]) -> dict[str, Any]:
    """The options with what contradicts a higher level taken out of the lower ones."""
    for one, other in (("output", "no_html"), ("assets", "no_html"), ("input", "data")):
        if not (options.get(one) and options.get(other)):
            continue
        if levels[one] != levels[other]:
            dropped = min(one, other, key=lambda name: levels[name])
            options[dropped] = False if dropped == "no_html" else None
        elif other == "no_html":
            raise UsageError(f"--no-html and --{one} contradict each other", next_step="drop one")
    return _one_on_stdout(options, levels)


def _one_on_stdout(options: dict[str, Any], levels: Mapping[str, Level]) -> dict[str, Any]:
    """The options with one format at most on standard output: what is stated goes first."""
    asking = [name for name in _TO_FILES if options.get(name) == "-"]
    stated = [name for name in asking if levels[name] is Level.STATED]
    if len(stated) == 1:
        dropped = [name for name in asking if name not in stated]
        options["no_html"] = options["no_html"] or "output" in dropped
        return {**options, **dict.fromkeys(dropped)}
    if len(asking) > 1:
        names = (name.removesuffix("_file").replace("_", "-") for name in asking[:2])
        both = " and ".join(f"--{name}" for name in names)
        raise UsageError(f"both {both} ask for standard output", expected="one at most")
    return options
