"""The options of an audit, declared once for the command line and ``[tool.gradaudit]``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import click

from gradaudit.settings import EFFORTS

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _betas(_ctx: click.Context, _param: click.Parameter, value: Any) -> tuple[float, float] | None:
    if value is None or isinstance(value, tuple):
        return value
    try:
        first, second = (
            float(part) for part in (value if isinstance(value, list) else value.split(","))
        )
    except ValueError:
        raise click.BadParameter("expected two numbers, as in 0.9,0.999") from None
    return first, second


def _codes(_ctx: click.Context, _param: click.Parameter, value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else list(value or ())
    return tuple(code.strip() for item in items for code in item.split(",") if code.strip())


class _Number(click.FloatRange):
    """A number in a range; NaN and infinity lie in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_POSITIVE = _Number(min=0.0, min_open=True)
_SEED = click.IntRange(min=0, max=2**63 - 1)  # what torch takes
_SUBJECT: tuple[_Decorator, ...] = (
    click.option(
        "--data", metavar="SPEC", help="Sample: .pt .npz .npy .safetensors .csv or file.py:name."
    ),
    click.option(
        "--batch-size", type=click.IntRange(min=1), help="Slice arrays into batches of this many."
    ),
    click.option("--target", metavar="NAME", help="Target column of a CSV (default: the last)."),
    click.option("--loss", metavar="SPEC", help="auto, cross_entropy, mse, ... or file.py:name."),
    click.option(
        "--build", metavar="SPEC", help="Code that builds the Module for a file of weights."
    ),
    click.option("--input", metavar="SPEC", help='Random sample, e.g. "float32[8,3,224,224]".'),
    click.option("--recipe", "recipe_file", metavar="FILE", help="Recipe as .toml or .json."),
    click.option("--optimizer", metavar="NAME", help="sgd, adam, adamw or rmsprop."),
    click.option("--lr", type=_POSITIVE, help="Learning rate to be judged."),
    click.option("--momentum", type=_Number(0, 1), help="Momentum."),
    click.option(
        "--betas", metavar="F,F", type=click.UNPROCESSED, callback=_betas, help="Adam's betas."
    ),
    click.option("--weight-decay", type=_Number(min=0), help="Weight decay."),
    click.option("--clip-norm", type=_POSITIVE, help="Gradient norm that steps are clipped to."),
    click.option("--warmup", type=click.IntRange(min=0), help="Steps of linear warm-up."),
    click.option(
        "--steps", type=click.IntRange(min=1), help="Steps you mean to train (default 1000)."
    ),
    click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), help="Precision."),
    click.option(
        "--state",
        type=click.Choice(["auto", "fresh", "trained"]),
        help="Are the weights a start or learned?",
    ),
    click.option(
        "--reinit", is_flag=True, help="Learned weights may be drawn anew: take them as a start."
    ),
    click.option("--trust", is_flag=True, help="Run code that comes with the model file."),
)
_REPORTS: tuple[_Decorator, ...] = (
    click.option(
        "-o", "--output", metavar="FILE", help="HTML report (default gradaudit-report.html)."
    ),
    click.option("--no-html", is_flag=True, help="Write no HTML."),
    click.option(
        "--assets",
        metavar="DIR",
        help="Folder for the HTML's style and script, where a server forbids them within.",
    ),
    click.option("--json", "json_file", metavar="FILE", help="JSON report; - is standard output."),
    click.option("--sarif", metavar="FILE", help="SARIF 2.1.0, as code scanning takes it."),
    click.option("--junit", metavar="FILE", help="JUnit XML: a case for every rule."),
    click.option("--markdown", metavar="FILE", help="Markdown, for summaries and comments."),
    click.option(
        "--annotations", is_flag=True, help="GitHub annotations, on standard error; ten at most."
    ),
    click.option(
        "--fail-on",
        type=click.Choice(["fail", "warn", "never"]),
        help="Verdict that ends in 1 (default fail).",
    ),
    click.option(
        "--baseline",
        metavar="FILE",
        help="Only what is new or worse than in this baseline or JSON report counts.",
    ),
    click.option(
        "--write-baseline",
        metavar="FILE",
        help="Write what is found now as a baseline; without --baseline that accepts it.",
    ),
)
_MANNER: tuple[_Decorator, ...] = (
    click.option(
        "--select", metavar="CODES", multiple=True, callback=_codes, help="Only these rules."
    ),
    click.option(
        "--ignore", metavar="CODES", multiple=True, callback=_codes, help="Not these rules."
    ),
    click.option("--effort", type=click.Choice(EFFORTS), help="quick, standard or thorough."),
    click.option("--seed", type=_SEED, help="Seed of every random number (default 0)."),
    click.option("--device", metavar="D", help="Where to run: cpu, cuda, ..."),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads."),
    click.option(
        "--timeout",
        type=_Number(min=0, min_open=True, max=1e8),
        metavar="S",
        help="Give up after S seconds.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="No summary and no progress."),
)
_OPTIONS: tuple[_Decorator, ...] = (
    *_SUBJECT,
    *_REPORTS,
    *_MANNER,
    click.option("--force", is_flag=True, help="Overwrite files that are no gradaudit reports."),
)
_FIX_OPTIONS: tuple[_Decorator, ...] = (
    click.option(
        "-o",
        "--output",
        "folder",  # not `output`: what [tool.gradaudit] says is a report's file
        metavar="DIR",
        required=True,
        help="Folder for the cure and its report; to be new or empty.",
    ),
    *_SUBJECT,
    *_MANNER,
    click.option("--force", is_flag=True, help="Replace the files of an earlier fix in DIR."),
)


def audit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add all options of an audit."""
    return _with(_OPTIONS, command)


def fix_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add those of an audit that say what is measured and how, and a folder to write into."""
    return _with(_FIX_OPTIONS, command)


def _with(options: Sequence[_Decorator], command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Let the command line say which configuration file counts, or none."""
    for option in (
        click.option(
            "--config",
            "config_file",
            metavar="FILE",
            help="Configuration file, instead of the nearest.",
        ),
        click.option("--isolated", is_flag=True, help="Read no configuration file."),
    ):
        command = option(command)
    return command
