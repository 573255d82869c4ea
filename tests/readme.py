"""The generated tables of the README: ``python -m tests.readme`` writes them, a test compares."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import click

from gradaudit.cli import cli
from gradaudit.onnx_graph.registry import operators
from gradaudit.rules import all_rules
from tests.kinds.kind import ALL, kinds

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


def onnx_operators() -> str:
    """How many operators of each domain there are, and of the smaller ones which."""
    by_domain: dict[str, list[str]] = {}
    for domain, name in operators():
        by_domain.setdefault(domain, []).append(name)
    by_domain.pop("gradaudit")  # what several nodes are computed as
    parts = [f"{len(by_domain.pop(''))} operators of `ai.onnx`"]
    for domain, names in sorted(by_domain.items()):
        parts.append(f"of `{domain}` {', '.join(sorted(names))}")
    return textwrap.fill("; ".join(parts) + ".", 100, initial_indent="  ", subsequent_indent="  ")


def kinds_table() -> str:
    """A row for each kind of file, as ``tests/kinds`` shows it."""
    rows = [
        f"| {kind.title} | {' | '.join('✓' if what in kind.measured else '' for what in ALL)} |"
        for kind in kinds()
    ]
    return "\n".join([f"| file | {' | '.join(ALL)} |", f"|---|{'---|' * len(ALL)}", *rows])


def renewed(text: str) -> str:
    """``text`` with its generated parts made anew."""
    tables = {"rules": rules_table(), "options": options_table(), "onnx": onnx_operators()}
    tables["kinds"] = kinds_table()
    for name, table in tables.items():
        pattern = rf"(<!-- generated: {name} -->\n).*?( *<!-- end -->)"
        text = re.sub(pattern, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
