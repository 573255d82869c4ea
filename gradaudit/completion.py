"""Completion in a shell: commands, options, files, configured models and rules; without torch.

click's own, with what it cannot know: that a bare ``gradaudit`` takes the models and options of
``gradaudit audit``, which options name files, and what is configured where the user stands.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, shell_complete
from click.types import StringParamType

from gradaudit.config import load_config
from gradaudit.errors import GradauditError

VARIABLE = "_GRADAUDIT_COMPLETE"  # how click's scripts for shells ask
_FILES = ("FILE", "SPEC")  # what options that take a file call it
_FOLDERS = ("DIR",)


class Commands(click.Group):
    """A group whose first word may also be an argument, or an option, of its ``audit``."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, then models; options of the group, then of ``audit``."""
        found, audit = super().shell_complete(ctx, incomplete), self.commands["audit"]
        if incomplete.startswith("-"):
            known = {item.value for item in found}
            inner = click.Context(audit, ctx, "audit", resilient_parsing=True)
            mine = audit.shell_complete(inner, incomplete)
            return [*found, *(item for item in mine if item.value not in known)]
        return _with_files([*found, *_models(incomplete)], incomplete)


def wanted() -> bool:
    """Whether a shell asks what could come next."""
    return bool(os.environ.get(VARIABLE))


def complete(group: click.Group) -> int:
    """Print what could come next, or the shell's script, and return the exit code."""
    for command in group.commands.values():
        for parameter in command.params:
            kind = _kind(parameter)
            if kind is not None:
                parameter.type = kind
    return shell_complete(group, {}, "gradaudit", VARIABLE, os.environ[VARIABLE])


def _kind(parameter: click.Parameter) -> click.ParamType[Any] | None:
    """What completes a parameter where its declared type does not."""
    if isinstance(parameter, click.Argument):
        return {"model": _Models(), "code": _Rules()}.get(str(parameter.name), click.Path())
    if parameter.metavar in _FILES:
        return click.Path()
    if parameter.metavar in _FOLDERS:
        return click.Path(file_okay=False)
    return _Rules() if parameter.metavar == "CODES" else None


class _Models(StringParamType):
    """Files, and the names of the models that are configured here."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _with_files(_models(incomplete), incomplete)


def _models(incomplete: str) -> list[CompletionItem]:
    """The models that are configured here."""
    with suppress(GradauditError, OSError):  # a wrong configuration is told when it is used
        names = [model.name for model in load_config(Path.cwd()).models]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []


def _with_files(words: list[CompletionItem], incomplete: str) -> list[CompletionItem]:
    """Words and files: a shell that is told to look for files itself forgets the words."""
    if not words:
        return [CompletionItem(incomplete, type="file")]
    with suppress(OSError, ValueError, NotImplementedError):
        folder, _, start = incomplete.rpartition("/")
        hidden = start.startswith(".")
        for path in sorted(Path(folder or ".").iterdir()):
            if path.name.startswith(start) and (hidden or not path.name.startswith(".")):
                words.append(CompletionItem(f"{path}/" if path.is_dir() else str(path)))
    return words


class _Rules(StringParamType):
    """Codes of rules; in a list, of the last one."""

    name = "rules"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from gradaudit.rules import all_rules

        before, comma, last = incomplete.rpartition(",")
        return [
            CompletionItem(f"{before}{comma}{rule.code}", help=rule.name)
            for rule in all_rules()
            if rule.code.startswith(last.upper())
        ]
