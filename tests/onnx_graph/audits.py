"""Audits of a net and of what was exported from it, held against each other.

``python -m tests.onnx_graph.audits [NET ...]`` prints where they differ.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import gradaudit
from gradaudit import Settings
from tests.onnx_graph.exported import Way, export, net
from tests.onnx_graph.exported_nets import NETS, drawn

BATCHES, ROWS = 6, 8
NEW, OLD = Way(True, 20, dynamic=True), Way(False, 17, training=True, dynamic=True)
Report = Mapping[str, Any]


def samples(name: str, model: nn.Module) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """Batches of inputs and of targets that the inputs decide."""
    found = []
    teacher = net(name, Way(True, 20))
    for i in range(BATCHES):
        given = drawn(name, ROWS, seed=i)
        with torch.no_grad():
            found.append((given, teacher(*given) + 0.5))
    return found


def audits(name: str, way: Way) -> tuple[Report, Report]:
    """The reports on the net, in training mode, and on its export; at quick effort, with MSE."""
    model = net(name, way).train()
    batches = samples(name, model)
    graph = gradaudit.load_onnx(export(net(name, way), batches[0][0], way))
    settings = Settings(effort="quick", loss="mse")
    torch.set_num_threads(1)
    own, exported = (gradaudit.audit(m, batches, settings=settings) for m in (model, graph))
    return own.to_dict(), exported.to_dict()


def differences(own: Report, exported: Report) -> dict[str, Any]:
    """Verdict, forecast, stages, growth and spectral norms, where they do not agree."""
    found: dict[str, Any] = {}
    mine, theirs = own["measurements"], exported["measurements"]
    for key, a, b in (
        ("verdict", own["verdict"], exported["verdict"]),
        ("forecast", own["forecast"]["outcome"], exported["forecast"]["outcome"]),
        ("rules", rules(own), rules(exported)),
        ("trunk", mine["trunk"]["found"], theirs["trunk"]["found"]),
        ("state", mine["state"]["state"], theirs["state"]["state"]),
        ("stages", len(mine["stages"]), len(theirs["stages"])),
        ("recurrent", len(mine["recurrent"]), len(theirs["recurrent"])),
    ):
        if a != b:
            found[key] = (a, b)
    for key in ("growth_per_stage", "total_growth_log10", "gsc"):
        a, b = mine["trunk"].get(key), theirs["trunk"].get(key)
        if not overlap(a, b):
            found[key] = (a, b)
    a, b = norms(own), norms(exported)
    missing = [name for name, norm in a.items() if not any(overlap(norm, n) for n in b.values())]
    if missing or len(a) != len(b):
        found["spectral norms"] = (missing, len(a), len(b))
    return found


def rules(report: Report) -> list[tuple[str, str]]:
    """Codes and severities of the findings."""
    return sorted((each["code"], each["severity"]) for each in report["findings"])


def norms(report: Report) -> dict[str, Any]:
    """Spectral norms by parameter."""
    rows = report["measurements"]["weights"]
    return {row["parameter"]: row["spectral_norm"] for row in rows if row["spectral_norm"]}


def overlap(a: Any, b: Any) -> bool:
    """Whether two estimates agree; absent ones do with each other only."""
    if a is None or b is None:
        return a is b
    slack = 1e-4 * abs(a["value"])
    lows, highs = ([e[k] for e in (a, b) if e[k] is not None] for k in ("low", "high"))
    return not lows or not highs or max(lows) <= min(highs) + slack


def main() -> None:
    for name in sys.argv[1:] or NETS:
        for way in (NEW, OLD):
            try:
                own, exported = audits(name, way)
            except Exception as error:
                print(f"{name}, {way}: {type(error).__name__}: {error}")
                continue
            print(f"{name}, {way}: {own['verdict']} {differences(own, exported) or 'agree'}")


if __name__ == "__main__":
    main()
