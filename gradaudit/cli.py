"""The command line: options to settings, an audit, renderers; torch is imported inside commands."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gradaudit import __version__, completion
from gradaudit.config import load_config
from gradaudit.config.document import near
from gradaudit.errors import GradauditError
from gradaudit.given import Command, given
from gradaudit.options import audit_options, configured, fix_options
from gradaudit.output import check_writable, results_alone_on_stdout
from gradaudit.supervisor import supervised
from gradaudit.targets import Target, choose, configuration
from gradaudit.telling import printable, told


class _Commands(completion.Commands):
    """A group whose default command is ``audit``: ``gradaudit model.pt``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version"}
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["audit", *args]
        if not args and not ctx.resilient_parsing and load_config(Path.cwd()).models:
            args = ["audit"]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would write an empty line, also into a pipe
            raise _Interrupted from None


class _Interrupted(Exception):
    """Ctrl-C."""


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 pass, 1 findings at or above --fail-on, 2 cannot run, 3 inconclusive; "
    "of fix: 0 sound or a proven cure was written, 1 no cure was found.",
)
@click.version_option(__version__, prog_name="gradaudit")
def cli() -> None:
    """Will this model train, and if not, what exactly do I change?

    \b
    gradaudit MODEL... [options]     audit models (`gradaudit audit --help` lists the options)
    gradaudit                        audit all that [[tool.gradaudit.model]] names, in one run
    gradaudit fix MODEL -o DIR       audit it, search for a cure, write the proven one into DIR
    gradaudit diff OLD NEW           what changed between two reports (--json) or baselines
    gradaudit inspect FILE           what a model file holds and asks for, without opening it
    gradaudit demo                   audit a built-in sample that explodes

    MODEL is a file that training left (.pt, .pth, .bin, .ckpt, .pt2, .safetensors, .onnx), a
    folder (Hugging Face, torch.distributed.checkpoint), or code: path/to/file.py:name or
    package.module:name, where name is a Module, or a callable without arguments that
    returns a Module or a gradaudit.Subject.
    """


@cli.command(cls=Command)
@click.argument("model", nargs=-1)
@configured
@audit_options
@click.pass_context
def audit(
    ctx: click.Context, /, model: tuple[str, ...], config_file: str | None, isolated: bool, **_: Any
) -> None:
    """Audit each MODEL and write the report.

    MODEL is a file, a folder, or code (`gradaudit --help` says more), or the name of one that is
    configured. Without any all that are configured are audited, in one run with one summary.
    """
    from gradaudit.run import run_audit

    config = configuration(config_file, isolated=isolated)
    chosen = choose(ctx, config, model)
    options = given(ctx, config.part).options
    if not chosen:
        if not options["quiet"]:
            click.echo("gradaudit: nothing to audit: the configuration excludes it", err=True)
        ctx.exit(0)
    targets = [each.target for each in chosen]
    ctx.exit(run_audit(targets, options, near(config.path) if config.path else ""))


@cli.command(cls=Command)
@click.argument("model")
@configured
@fix_options
@click.pass_context
def fix(
    ctx: click.Context, /, model: str, config_file: str | None, isolated: bool, **_: Any
) -> None:
    """Audit MODEL, search for a cure, and write what is shown to work into DIR.

    \b
    DIR/model.safetensors       the start to train from, under the model's own names
    DIR/recipe.json             what is prescribed; null where nothing is
    DIR/fix.py                  the same as code: prepare, make_optimizer, training_step
    DIR/report.html, .json      the audit, with the proof

    Where nothing is to be changed, or no cure was found, only the reports are written. The model
    itself is not changed, and nothing is written until everything is there.

    Exit codes: 0 sound, or a proven cure was written; 1 it fails and no cure was found; 2 cannot
    run; 3 inconclusive, as without real data: a cure cannot be shown to work on made-up data.
    """
    from gradaudit.run import run_fix

    chosen = choose(ctx, configuration(config_file, isolated=isolated), [model], excluding=False)
    target, options = chosen[0].target, chosen[0].given.options
    ctx.exit(run_fix(target.model, target.settings, options))


@cli.command()
@click.argument("file")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - is standard output.")
@click.option("--force", is_flag=True, help="Overwrite a file that is no gradaudit report.")
@click.pass_context
def inspect(ctx: click.Context, /, file: str, json_file: str | None, force: bool) -> None:
    """Show what FILE holds and asks for, without opening it.

    Kind, tensors with types and sizes, everything that loading it would import, and whether an
    audit needs --trust. Nothing in the file is executed, imported or allocated.

    Exit codes: 0; 1 if it asks for something known to run commands or code; 2 if it cannot be read.
    """
    from gradaudit.inspecting import run_inspect

    ctx.exit(run_inspect(file, json_file, force=force))


@cli.command()
@click.argument("old")
@click.argument("new")
@click.option("--markdown", metavar="FILE", help="Write Markdown; - is standard output.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - is standard output.")
@click.option(
    "--fail-on",
    type=click.Choice(["fail", "warn", "never"]),
    help="What is new or worse ends in 1 (default fail).",
)
@click.option("--all", "-v", "everything", is_flag=True, help="List what is unchanged as well.")
@click.option("--force", is_flag=True, help="Overwrite files that are no gradaudit reports.")
@configured
@click.pass_context
def diff(ctx: click.Context, /, config_file: str | None, isolated: bool, **options: Any) -> None:
    """Show what changed from OLD to NEW, each the JSON of an audit or a baseline.

    Findings are told apart by rule and layer. One is worse if its severity went up, or its value
    went further past its limit than its interval and the tolerance; so are numbers such as the
    growth per stage, whether or not a rule finds fault with them. Tolerances are those configured.

    Exit codes: 0 nothing new or worse that counts, 1 something, 2 a file cannot be read, 3 NEW is
    inconclusive.
    """
    from gradaudit.differing import run_diff

    config = configuration(config_file, isolated=isolated)
    ctx.exit(run_diff(config=config, **options))


@cli.command(cls=Command)
@click.argument("model", required=False)
@configured
@audit_options
@click.pass_context
def config(
    ctx: click.Context, /, model: str | None, config_file: str | None, isolated: bool, **rest: Any
) -> None:
    """Show what is in force, and where each value came from.

    Options, limits, severities, layers, tolerances and models; with MODEL what holds for it.
    Takes the options of an audit, and shows what they would change; only --json writes this
    itself as JSON (- is standard output).
    """
    from gradaudit.in_force import in_force, render, render_json
    from gradaudit.inspecting import put

    json_file = rest["json_file"]
    if json_file not in (None, "-"):
        check_writable(Path(json_file), force=rest["force"])
    found = configuration(config_file, isolated=isolated)
    chosen = choose(ctx, found, [model], excluding=False)[0] if model else None
    content = in_force(found, given(ctx, found.part), chosen)
    put(render(content), render_json(content), json_file)
    ctx.exit(0)


@cli.command(cls=Command)
@audit_options
@click.pass_context
def demo(ctx: click.Context, /, **_: Any) -> None:
    """Audit a built-in sample that explodes; needs no file."""
    from gradaudit.resources import resource
    from gradaudit.run import run_audit

    asked, spec = given(ctx), f"{resource('samples', 'exploding_mlp.py')}:subject"
    code = run_audit([Target(spec, spec, asked.settings(), asked.fail_on)], asked.options)
    if code == 1 and not asked.options["quiet"]:
        click.echo("The sample fails its audit, as it should: gradaudit demo ends in 0.", err=True)
    ctx.exit(0 if code == 1 else code)


@cli.command()
def rules() -> None:
    """List the rules."""
    from gradaudit.rules import all_rules

    for rule in all_rules():
        click.echo(f"{rule.code}  {rule.name:30}  {rule.summary}")


@cli.command()
@click.argument("code")
def explain(code: str) -> None:
    """Explain the rule CODE (GA101, or its name)."""
    from gradaudit.rules import rule

    click.echo(rule(code).page)


def main() -> None:
    """Run the command line; every error is one line and exit code 2, and 1 means findings only."""
    if completion.wanted():
        sys.exit(completion.complete(cli))
    sys.exit(supervised(_command, lambda message: _say(f"error: {message}", 2)))


def _command() -> int:
    with results_alone_on_stdout():
        return _guarded(lambda: cli.main(standalone_mode=False))


def _guarded(run: Callable[[], Any]) -> int:
    try:
        code = run()
    except click.ClickException as error:
        return _usage(error)
    except GradauditError as error:
        return _say(f"error: {error}", error.exit_code)
    except (KeyboardInterrupt, click.Abort, _Interrupted):
        if sys.stderr is not None and sys.stderr.isatty():
            click.echo(err=True)  # the terminal has shown ^C
        return _say("interrupted; nothing was written", 2)
    except (BrokenPipeError, SystemExit):  # click and rich exit with 1 for a broken pipe
        return 2
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return _say(f"error: {error.strerror}: {error.filename}", 2)
        if os.environ.get("GRADAUDIT_TRACEBACK"):
            raise
        return _say(
            f"internal error: {told(error)}; this is a defect of gradaudit: set "
            "GRADAUDIT_TRACEBACK=1 to see where, and please report it",
            2,
        )
    return code if isinstance(code, int) else 0


def _usage(error: click.ClickException) -> int:
    """What click objects to, in one line; a bare ``gradaudit`` prints its help."""
    message = error.format_message()
    if "\n" in message:
        return _echoed(message, 2)
    where = getattr(error, "ctx", None)
    command = where.command_path if where else "gradaudit"
    return _say(f"error: {message.rstrip('.')}; `{command} --help` lists the options", 2)


def _say(message: str, code: int) -> int:
    return _echoed(f"gradaudit: {printable(message)}", code)


def _echoed(message: str, code: int) -> int:
    try:
        click.echo(message, err=True)
    except OSError:  # nobody listens, or the disk is full: the exit code still tells
        sys.stderr = None  # else it would be flushed, and fail, on the way out
    return code
