"""What is in force, for people to read: one line a value, its place behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradaudit.limits import told_value
from gradaudit.reports.text import one_line

Row = tuple[str, str, str]  # what, value, where from
_WIDEST = 40  # of a value; what is longer pushes its place to the right


def render(content: Mapping[str, Any]) -> str:
    """The text of ``gradaudit config``, in sections; columns line up within each."""
    file = one_line(content["file"] or "")
    lines = [f"configuration: {file}" if file else "configuration: none found, all by default"]
    if content["model"]:
        model = content["model"]
        lines.append(one_line(f"model: {model['name']} ({model['model']}), from {model['from']}"))
    sections: list[tuple[str, Sequence[Row]]] = [
        ("options", [_option(*item) for item in content["options"].items()]),
        ("exclude", [(glob, "", file or "") for glob in content["exclude"]]),
        ("rules", [row for item in content["rules"].items() for row in _rule(*item)]),
        ("layers", [row for layer in content["layers"] for row in _layer(layer)]),
        ("tolerances", [_number(*item) for item in content["tolerances"].items()]),
        ("models", [row for model in content["models"] for row in _model(model)]),
    ]
    for title, rows in sections:
        if rows:
            lines += ["", title, *_columns(rows)]
    return "\n".join(lines) + "\n"


def render_json(content: Mapping[str, Any]) -> str:
    """The same as JSON: keys sorted, one newline at the end."""
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _columns(rows: Sequence[Row]) -> Iterator[str]:
    widths = [min(_WIDEST, max(len(row[column]) for row in rows)) for column in (0, 1)]
    for row in rows:
        what, value, place = map(_shown, row)
        yield f"  {what:<{widths[0]}}  {value:<{widths[1]}}  {place}".rstrip()


def _shown(cell: str) -> str:
    return cell[: len(cell) - len(cell.lstrip(" "))] + one_line(cell)


def _option(name: str, entry: Mapping[str, Any]) -> Row:
    return name, _value(entry["value"]), entry["from"]


def _value(value: Any) -> str:
    """A value as TOML has it; what is not set is a dash."""
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return "-"
    if isinstance(value, float):
        return told_value(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False)


def _rule(code: str, entry: Mapping[str, Any]) -> Iterator[Row]:
    severity = entry["severity"] or "as judged"
    reason = f": {entry['reason']}" if entry["reason"] else ""
    yield f"{code} {entry['name']}", severity, f"{entry['from']}{reason}"
    for name, limit in entry["limits"].items():
        what, value, place = _number(name, limit)
        yield f"  {what}", value, place


def _number(name: str, entry: Mapping[str, Any]) -> Row:
    """A limit or tolerance; where a default comes from is said, and what a change stands for."""
    place = entry["from"]
    if place == "default":
        return name, f"{told_value(entry['value'])}", f"default: {entry['source']}"
    return name, told_value(entry["value"]), f"{place}, instead of {told_value(entry['default'])}"


def _layer(entry: Mapping[str, Any]) -> Iterator[Row]:
    reason = f": {entry['reason']}" if entry["reason"] else ""
    yield ", ".join(entry["match"]), "", f"{entry['from']}{reason}"
    for code in entry["ignore"]:
        yield f"  {code}", "off", ""
    for code, severity in entry["severities"].items():
        yield f"  {code}", severity, ""
    for name, value in entry["limits"].items():
        yield f"  {name}", told_value(value), ""


def _model(entry: Mapping[str, Any]) -> Iterator[Row]:
    yield entry["name"], entry["model"], entry["from"]
    for kind in ("options", "severities", "limits", "tolerances"):
        for name, item in entry[kind].items():
            value = item["value"] if kind == "severities" else _value(item["value"])
            yield f"  {name}", value, item["from"]
    for layer in entry["layers"]:
        for what, value, place in _layer(layer):
            yield f"  {what}", value, place
