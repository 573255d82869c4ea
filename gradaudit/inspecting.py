"""``gradaudit inspect``: what a file holds and asks for, without opening it."""

from __future__ import annotations

from pathlib import Path

from gradaudit.errors import UsageError
from gradaudit.output import check_writable, write_stdout, write_whole


def run_inspect(file: str, json_file: str | None, *, force: bool) -> int:
    """Describe ``file`` on standard output, or as JSON where asked; returns the exit code.

    Raises a :class:`gradaudit.errors.GradauditError` of one line for what is no model file.
    """
    if json_file not in (None, "-"):
        check_writable(Path(str(json_file)), force=force)
    from gradaudit.reports.contents import render_json, render_text
    from gradaudit.subject.code import is_code
    from gradaudit.subject.formats import inspect_file

    if is_code(file):
        raise UsageError(f"{file} is code", expected="a model file", next_step="read it instead")
    contents = inspect_file(Path(file))
    put(render_text(contents), render_json(contents), json_file)
    dangerous = any(each.standing == "dangerous" for each in contents.globals)
    return 1 if dangerous else 0


def put(text: str, as_json: str, json_file: str | None) -> None:
    """Write the text to standard output, or the JSON where that is asked for."""
    if json_file is None:
        write_stdout(text)
    elif json_file == "-":
        write_stdout(as_json)
    else:
        write_whole({Path(json_file): as_json})
