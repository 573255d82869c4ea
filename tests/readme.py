"""The generated tables of the README: ``python -m tests.readme`` writes them, a test compares."""

from __future__ import annotations

import re
from pathlib import Path

import click

from gradaudit.cli import cli
from gradaudit.rules import all_rules

README = Path(__file__).resolve().parent.parent / "README.md"


def rules_table() -> str:
    """A row for each rule."""
    rows = [f"| {rule.code} | {rule.name} | {rule.summary} |" for rule in all_rules()]
    return "\n".join(["| code | name | what it says |", "|---|---|---|", *rows])


def options_table() -> str:
    """A row for each option of an audit."""
    rows = []
    for parameter in cli.commands["audit"].params:
        if isinstance(parameter, click.Option):
            names = ", ".join(f"`{name}`" for name in parameter.opts)
            rows.append(f"| {names} | {(parameter.help or '').replace('|', '/')} |")
    return "\n".join(["| option | meaning |", "|---|---|", *rows])


def renewed(text: str) -> str:
    """``text`` with its generated parts made anew."""
    for name, table in (("rules", rules_table()), ("options", options_table())):
        pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
