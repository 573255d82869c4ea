"""``fix.py``: a proven cure as one file that needs torch only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from gradaudit.fixing import Fixed
from gradaudit.mending.change import merged
from gradaudit.records import Finding, Prescription, Report
from gradaudit.remedies.catalogue import SHOWN
from gradaudit.reports.text import plural
from gradaudit.written.optimizer import optimizer_part
from gradaudit.written.start import Part, start_part
from gradaudit.written.step import step_part
from gradaudit.written.words import comment, proof_line

_HALF = (torch.float16, torch.bfloat16)
_USE = """\
#
# Use, with your own {origin} and your own batches as they are:
#
#     model = prepare({opened})  # or load model.safetensors, which holds the same start
#     optimizer = {make}
#     for step, (inputs, target) in enumerate(batches):
#         loss = training_step(model, optimizer, inputs, target, loss_function, step)
"""


def script(fixed: Fixed) -> str:
    """The text of ``fix.py``. Equal audits give equal text."""
    report = fixed.report
    prescription, made = report.prescription, fixed.optimizer
    assert prescription is not None
    assert made is not None
    prescribed = prescription.recipe or {}
    recipe = merged(report.recipe, prescribed)
    half = any(value.dtype in _HALF for value in fixed.start.values())
    parts = (
        start_part(prescription.remedies, report.seed),
        optimizer_part(made, prescribed),
        step_part(recipe, prescribed, half_weights=half),
    )
    make = "make_optimizer(model)" if made.of_torch else "make_optimizer(model, make)"
    top = (
        "\n".join(_story(report, prescription)) + "\n" + _USE.format(make=make, **_opening(report))
    )
    constants = [line for part in parts for line in part.constants]
    blocks = [top + "\n" + _imports(parts)]
    if constants:
        blocks[0] += "\n" + "\n".join(constants) + "\n"
    return "\n\n".join([*blocks, *(part.code for part in parts)])


def _opening(report: Report) -> dict[str, str]:
    """How the model is had before it is prepared."""
    source, name = report.subject.source, report.subject.name
    if _is_graph(report):
        return {"origin": "graph", "opened": f"gradaudit.load_onnx({source!r})"}
    if _is_pretrained(report):
        return {"origin": "folder", "opened": f"transformers.{name}.from_pretrained({source!r})"}
    return {"origin": "factory", "opened": "factory()"}


def _is_graph(report: Report) -> bool:
    return report.subject.format == "onnx"


def _is_pretrained(report: Report) -> bool:
    return report.subject.format == "Hugging Face model"


def _needed(report: Report) -> str:
    if _is_graph(report):
        return "torch, and gradaudit to open the graph"
    return "torch, and transformers to open the folder" if _is_pretrained(report) else "torch only"


def _imports(parts: Iterable[Part]) -> str:
    """Of the standard library first, then torch's."""
    lines = {line for part in parts for line in part.imports}
    torchs = sorted((n for n in lines if n.split()[1].startswith("torch")), key=_by_module)
    others = sorted(lines - set(torchs), key=_by_module)
    return "\n".join([*others, *([""] if others and torchs else []), *torchs]) + "\n"


def _by_module(line: str) -> tuple[bool, str]:
    return line.startswith("from "), line


def _story(report: Report, prescription: Prescription) -> list[str]:
    """What was found, what is changed, and what shows that it works, as comments."""
    name = report.subject.name or "the model"
    lines = comment(
        f"Written by gradaudit {report.version}, seed {report.seed}, for "
        f"{report.subject.source} ({name}). Needs {_needed(report)}."
    )
    lines += ["#", "# Found:"]
    for finding, more in _one_per_rule(report.findings):
        others = f" (and {plural(more, 'more place')})" if more else ""
        text = f"- {finding.code} {finding.name}, {finding.severity}: {finding.why}{others}"
        lines += comment(text, "  ")
    lines += ["#", "# Changed:"]
    for remedy in prescription.remedies:
        if remedy.safety != SHOWN:
            lines += comment(f"- {remedy.id}: {remedy.title}", "  ")
    lines += ["#", *comment(f"Shown to work: {proof_line(prescription)}.")]
    loss = report.measurements.loss
    if loss is not None:
        lines += comment(f"Loss: {loss.kind}. {loss.why}")
    return lines


def _one_per_rule(findings: Sequence[Finding]) -> list[tuple[Finding, int]]:
    """The first finding of each rule that fails or warns, and how many more there are."""
    pressing = [finding for finding in findings if finding.severity != "note"]
    codes = list(dict.fromkeys(finding.code for finding in pressing))
    same = {code: [each for each in pressing if each.code == code] for code in codes}
    return [(each[0], len(each) - 1) for each in same.values()]
