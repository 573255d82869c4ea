"""Train in bf16 under autocast with float32 weights: float32's range, and updates that add up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._layers import codes
from gradaudit.rules._half import trained_in
from gradaudit.rules._judge import standing
from gradaudit.settings import Settings

ORDER = 53

_CODE = """\
# `model` is your torch.nn.Module; make the optimizer from its parameters after this.
import torch

model.float()  # weights and optimizer state in float32; no loss scale is needed
device = next(model.parameters()).device.type


def training_step(optimizer, inputs, target, loss_function):
    optimizer.zero_grad()
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = loss_function(model(inputs), target)
    loss.backward()
    optimizer.step()
    return loss.detach()
"""


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, where no loss scale helps, or where bf16 weights lose their updates."""
    if beyond_scaling(findings, measurements, settings):
        yield Remedy(
            "bfloat16",
            "recipe",
            "Train in bf16 instead of fp16: it has the range of float32 and needs no loss scale.",
            {"precision": "bf16"},
            _CODE,
            "recipe only",
            ("GA701", "GA702"),
        )
    elif "GA703" in codes(findings):
        yield Remedy(
            "float32-weights",
            "recipe",
            "Keep the weights in float32 and compute in bf16 (torch.autocast).",
            {"precision": "bf16", "weights": "float32"},
            _CODE,
            "recipe only",
            ("GA703",),
        )


def beyond_scaling(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> bool:
    """Whether fp16 fails in a way that no loss scale mends."""
    found = trained_in(measurements, "fp16")
    if found is None or not codes(findings) & {"GA701", "GA702"}:
        return False
    precision, row = found
    activations = bool(row.overflows_in) and row.overflow_spreads is not False
    lost = row.underflow_scaled
    both_ends = lost is not None and standing(lost, settings.limit("underflow_max")) == "past"
    return activations or both_ends or precision.regime == "pure"
