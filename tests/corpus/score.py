"""What gradaudit says of a case, and what its cure comes to when it is trained to the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

import gradaudit
from gradaudit.fixing import fix
from gradaudit.mending.change import applicable, set_start
from gradaudit.records import Finding, Remedy
from gradaudit.settings import Settings
from tests.corpus.case import Case
from tests.corpus.training import Change, train

SEEDS = (0, 1, 2)


def foreseen(case: Case, *, mend: bool = True) -> dict[str, Any]:
    """The forecast, and for a case that is ill the outcomes of training with the written cure."""
    torch.set_num_threads(1)
    settings = Settings(recipe=case.recipe, threads=1)
    started = time.perf_counter()
    model = case.model(0)
    if mend:
        fixed = fix(model, iter(case.sample()), loss=case.task.loss, settings=settings)
        report, start = fixed.report, fixed.start
    else:
        settings = dataclasses.replace(
            settings, spent=dataclasses.replace(settings.budget, search_steps=0)
        )
        report = gradaudit.audit(model, iter(case.sample()), loss=case.task.loss, settings=settings)
        start = {}
    row: dict[str, Any] = {
        "outcome": report.forecast.outcome,
        "confidence": report.forecast.confidence,
        "because": list(report.forecast.because),
        "verdict": report.verdict,
        "cause": report.cause,
        "findings": [_said(finding) for finding in report.findings],
        "seconds": round(time.perf_counter() - started, 2),
        "outlook": _plain(report.measurements.outlook),
        "rehearsal": _plain(report.measurements.rehearsal),
        "recurrent": len(report.measurements.recurrent),
        "state": report.measurements.state.state,
        "growth": _value(report.measurements.trunk.total_growth_log10),
    }
    prescription = report.prescription
    if prescription is None:
        return row
    row["remedies"] = [remedy.id for remedy in prescription.remedies]
    applied = applicable(prescription.remedies)
    row["sole"] = list(applied[0].for_codes) if len(applied) == 1 else []
    row["tried"] = [
        {"remedies": list(each.remedies), "passed": each.passed, "why": each.why}
        for each in prescription.tried
    ]
    row["proven"] = prescription.proof is not None
    if mend and prescription.proof is not None and prescription.recipe is not None:
        change = Change(start, prescription.recipe)
        row["recipe"] = dict(prescription.recipe)
        row["after"] = _plain(prescription.proof.after)
        mended = _prepared(case, prescription.remedies, prescription.recipe)
        try:
            row["mended"] = [dataclasses.asdict(train(mended, seed, change)) for seed in SEEDS]
        except AttributeError:  # an output that is no tensor cannot be scaled back: not mended
            row["mended"] = []
    return row


def _prepared(case: Case, remedies: Sequence[Remedy], recipe: Mapping[str, Any]) -> Case:
    """The case with what a state dict and the contract's keys do not hold: see ``fix.py``."""

    def build() -> nn.Module:
        model = case.build()
        set_start(model, remedies, 0)
        return model

    precision = recipe.get("precision", case.recipe.precision)
    changed = dataclasses.replace(case.recipe, precision=precision)
    return dataclasses.replace(case, build=build, recipe=changed)


def _said(finding: Finding) -> dict[str, str]:
    return {"code": finding.code, "severity": finding.severity, "where": str(finding.where)}


def _plain(record: Any) -> Any:
    return None if record is None else dataclasses.asdict(record)


def _value(estimate: Any) -> float | None:
    return None if estimate is None else estimate.value
