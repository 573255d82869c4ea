"""``gradaudit diff``: what changed from one run, report or baseline to another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gradaudit import __version__
from gradaudit.errors import UnreadableFile, UsageError
from gradaudit.output import check_spared, check_writable, write_stdout, write_whole
from gradaudit.tolerances import with_tolerances

if TYPE_CHECKING:
    from gradaudit.comparing.files import Kept
    from gradaudit.config import Config
    from gradaudit.records import Compared, Difference, Limit, Snapshot


def run_diff(
    old: str,
    new: str,
    *,
    markdown: str | None,
    json_file: str | None,
    fail_on: str | None,
    config: Config,
    everything: bool,
    force: bool,
) -> int:
    """Tell what changed, write what was asked for, and return the exit code.

    Raises a :class:`gradaudit.errors.GradauditError` of one line where either file is no report.
    """
    places = {kind: at for kind, at in (("markdown", markdown), ("json", json_file)) if at}
    _check(places, (old, new), force=force)
    from gradaudit.comparing.files import read_models

    fail_on = fail_on or str(config.part.options.get("fail_on") or "fail")
    before, now = read_models(old), read_models(new)
    if before and not now:  # nothing would be worse
        raise UnreadableFile(f"{new} holds no model", expected="one that OLD is held against")
    difference = _difference(old, before, new, now, fail_on=fail_on, config=config)
    from gradaudit.reports import comparison_json, comparison_markdown

    renderers = {"markdown": comparison_markdown.render, "json": comparison_json.render}
    texts = {kind: renderers[kind](difference) for kind in places}
    write_whole({Path(at): texts[kind] for kind, at in places.items() if at != "-"})
    to_stdout = [texts[kind] for kind, at in places.items() if at == "-"]
    if to_stdout:
        write_stdout(to_stdout[0])
    else:
        _print(difference, everything=everything)
    return difference.exit_code


def _check(places: Mapping[str, str], read: tuple[str, str], *, force: bool) -> None:
    files = [Path(at) for at in places.values() if at != "-"]
    if list(places.values()).count("-") > 1:
        raise UsageError(
            "both --markdown and --json ask for standard output", expected="one at most"
        )
    for file in files:
        check_writable(file, force=force)
        check_spared(file, read)
    if len({file.resolve() for file in files}) < len(files):
        raise UsageError(f"two formats would be written to {files[0]}", expected="a file for each")


def _print(difference: Difference, *, everything: bool) -> None:
    """On standard output: here the text is what was asked for."""
    import sys

    from rich.console import Console

    from gradaudit.reports import comparison_text

    if sys.stdout is None:
        raise UsageError("cannot write to standard output", found="it is closed")
    console = Console(file=sys.stdout, highlight=False)
    comparison_text.render(difference, console, everything=everything)


def _difference(
    old: str,
    before: Mapping[str, Kept],
    new: str,
    now: Mapping[str, Kept],
    *,
    fail_on: str,
    config: Config,
) -> Difference:
    from gradaudit.records import Difference

    alone = len(before) == len(now) == 1
    pairs = (
        [(name, kept, next(iter(before.values()))) for name, kept in now.items()]
        if alone
        else [(name, kept, before.get(name)) for name, kept in now.items()]
    )
    models = tuple(
        _compared(
            name, then, kept, against=old, fail_on=fail_on, tolerances=_tolerances(config, name)
        )
        for name, kept, then in pairs
    )
    left = () if alone else tuple(sorted(set(before) - set(now)))
    notes = tuple(f"{name} is in {old} only." for name in left)
    if alone and set(before) != set(now):
        notes = (f"{next(iter(now))} is held against {next(iter(before))}.",)
    return Difference(__version__, old, new, models, notes)


def _tolerances(config: Config, name: str) -> Mapping[str, Limit]:
    """Those configured for the model of that name, over those for all."""
    own = next((model.part.tolerances for model in config.models if model.name == name), {})
    return with_tolerances({**config.part.tolerances, **own})


def _compared(
    name: str,
    before: Kept | None,
    now: Kept,
    *,
    against: str,
    fail_on: str,
    tolerances: Mapping[str, Limit],
) -> Compared:
    from gradaudit.comparing import compare
    from gradaudit.records import Compared, exit_code, held

    if isinstance(now, str):
        return Compared(name, None, None, 2, now)
    earlier: Snapshot | None = None if isinstance(before, str) else before
    comparison = compare(earlier, now, against, tolerances, baseline=False)
    code = exit_code(held(now.verdict, comparison), fail_on)
    return Compared(name, comparison, now.verdict, code)
