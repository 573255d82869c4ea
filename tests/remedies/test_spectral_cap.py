"""Weights past their norm: scaled or capped, and never twice."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradaudit
from tests.remedies.pasted import BY_CAUSE, ids, paste, prescription, remedy, weight_rows
from tests.rules.literal import FLAT, TRAINED, loss, measurements, module, stage, weight


def test_an_excess_norm_is_scaled_on_start_weights_and_capped_on_learned_ones() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    nn.init.orthogonal_(model[0].weight, gain=300.0)
    rows = weight_rows(model, "Tanh")
    norm = torch.linalg.matrix_norm(model[0].weight, 2).item()
    measured = weight(0, 1.0).spectral_norm
    big = replace(
        rows[0],
        spectral_norm=replace(measured, value=norm, low=norm, high=norm),
        critical_edge=2.0,
    )
    seen = measurements(weights=(big, rows[1]), rehearsal=FLAT)
    cap = remedy(replace(seen, state=TRAINED), "spectral-cap")
    paste(remedy(seen, "spectral-scale").code, model=model)
    assert torch.linalg.matrix_norm(model[0].weight, 2).item() == pytest.approx(2.0, rel=1e-3)
    assert cap.safety == "changes architecture: shown, not applied"
    paste(cap.code, model=model)
    assert torch.linalg.matrix_norm(model[0].weight, 2).item() == pytest.approx(1.0, rel=1e-2)


def test_a_weight_that_another_remedy_draws_anew_is_not_scaled_as_well() -> None:
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(3)))
    big = weight(0, 1.0).spectral_norm
    big = replace(big, value=60.0, low=60.0, high=60.0)
    rows = tuple(
        replace(row, spectral_norm=big, critical_edge=2.0, rms=1.0)
        for row in weight_rows(model, "Tanh")
    )
    stages = (
        stage(0, modules=("0", "t0"), parameters=("0.weight",)),
        stage(1, modules=("1", "t1"), parameters=("1.weight",)),
        stage(2, role="head", parameters=("2.weight",)),
    )
    seen = measurements(
        loss=loss(initial=30.0),
        modules=(module("t0", "Tanh", saturated_fraction=0.98),),
        stages=stages,
        weights=rows,
        rehearsal=FLAT,
    )
    assert ids(seen) == ["head-scale", "unit-reset", "spectral-scale"]
    head, units, scale = prescription(seen).remedies
    assert (head.sets, units.sets, scale.sets) == (("2.weight",), ("0.weight",), ("1.weight",))
    assert "GA301" in head.for_codes
    assert "GA301" in units.for_codes


def test_the_remedies_together_leave_a_saturated_net_that_trains() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    y = (x @ torch.randn(16, 4)).argmax(1)
    sizes = [16, *[128] * 5]
    layers = (each for a, b in pairwise(sizes) for each in (nn.Linear(a, b), nn.Tanh()))
    model = nn.Sequential(*layers, nn.Linear(128, 4))
    for layer in model[::2]:
        nn.init.normal_(layer.weight)
    batches = list(zip(x.split(32), y.split(32), strict=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    report = gradaudit.audit(
        model, batches, loss="cross_entropy", optimizer=optimizer, settings=BY_CAUSE
    )
    assert {"GA301", "GA402"} <= {finding.code for finding in report.findings}
    assert report.prescription is not None
    for each in report.prescription.remedies:
        paste(each.code, model=model)
    for step in range(300):
        inputs, target = batches[step % 8]
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), target).backward()
        optimizer.step()
    assert F.cross_entropy(model(x), y).item() < 0.3
