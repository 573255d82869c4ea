"""The lines of a TOML file's keys, held against a file in which each key says its own line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradaudit.config.document import Table, near, read_document

TEXT = '''# [tool.gradaudit]
top = 2
[tool.gradaudit]  # a comment = 1
a = 4
"quoted key" = 5
dotted.b.c = 6
long = """
a = 0
[tool.other]
"""
after = 11
list = [
  "x = 1",
  {y = 1},
]
  indented = 16

[tool.gradaudit.rules."GA101"]
x = 19

[[tool.gradaudit.model]]
name = 22
rules.GA1 = 23
[[tool.gradaudit.model]]
name = 25
[tool.gradaudit.model.rules.GA2]
z = 27
[[tool.gradaudit.model.layers]]
match = 29
[tool.other]
a = 31
'''


def _table(path: Path) -> Table:
    path.write_text(TEXT)
    table = read_document(path, table=("tool", "gradaudit"))
    assert table is not None
    return table


def test_every_key_stands_where_it_says(tmp_path: Path) -> None:
    table = _table(tmp_path / "pyproject.toml")
    for keys, line in {
        ("a",): 4,
        ("quoted key",): 5,
        ("dotted", "b", "c"): 6,
        ("dotted", "b"): 6,
        ("after",): 11,
        ("indented",): 16,
        ("rules", "GA101", "x"): 19,
        ("rules", "GA101"): 18,
        ("model", 0, "name"): 22,
        ("model", 0, "rules", "GA1"): 23,
        ("model", 1): 24,
        ("model", 1, "name"): 25,
        ("model", 1, "rules", "GA2", "z"): 27,
        ("model", 1, "layers", 0, "match"): 29,
        ("list", 1, "y"): 12,  # inside a value: the key that holds it
        ("missing",): 3,
    }.items():
        assert table.line(*keys) == line, keys


def test_what_is_below_knows_its_place_and_header(tmp_path: Path) -> None:
    table = _table(tmp_path / "pyproject.toml")
    model = table.below("model", 1)
    assert model.label == "[[tool.gradaudit.model]]"
    assert model.below("rules", "GA2").label == "[tool.gradaudit.model.rules.GA2]"
    assert model.place("name") == f"{tmp_path / 'pyproject.toml'}:25"
    own = Table(tmp_path / "gradaudit.toml", {"rules": {}})
    assert (own.label, own.below("rules").label) == ("", "[rules]")


def test_near_is_what_a_report_may_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    assert near(tmp_path / "a" / "b" / "x.toml") == "b/x.toml"
    assert near(tmp_path / "a" / ".gradaudit.toml") == ".gradaudit.toml"
    assert near(tmp_path / "x.toml") == "../x.toml"
    assert near(tmp_path.parent / "other" / "x.toml") == "x.toml"
