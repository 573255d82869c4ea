"""Scale the loss so that fp16 holds its gradients, and divide by the scale before clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies.bfloat16 import beyond_scaling
from gradaudit.rules._half import scale_name, trained_in
from gradaudit.rules._judge import made_up
from gradaudit.settings import Settings

ORDER = 54

_ANSWERS = ("GA701", "GA702")


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, for every recipe in fp16 on real data that a loss scale can help."""
    found = trained_in(measurements, "fp16")
    if found is None or made_up(measurements) or beyond_scaling(findings, measurements, settings):
        return
    precision, row = found
    scale = precision.loss_scale
    if scale is None or precision.regime != "autocast":
        return  # torch's scaler refuses fp16 weights
    lost = row.underflow_scaled
    rest = "" if lost is None else f": {lost.value:.1%} of the gradient entries then round to zero"
    yield Remedy(
        "loss-scale",
        "recipe",
        f"Start the loss scale at {scale_name(scale)}{rest}.",
        {"loss_scale": scale},
        _code(scale, measurements.recipe.clip_norm),
        "recipe only",
        _ANSWERS,
    )


def _code(scale: float, clip_norm: float | None) -> str:
    clip = "    # Clip here, if you do: before unscale_ the norm is that of the scaled gradients."
    if clip_norm is not None:
        clip += f"\n    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={clip_norm!r})"
    return (
        "# `model` is your torch.nn.Module, `optimizer` its torch.optim.Optimizer.\n"
        "import torch\n"
        "\n"
        "device = next(model.parameters()).device.type\n"
        f"scaler = torch.amp.GradScaler(device, init_scale={scale!r})\n"
        "\n"
        "\n"
        "def training_step(inputs, target, loss_function):\n"
        "    optimizer.zero_grad()\n"
        "    with torch.autocast(device, dtype=torch.float16):\n"
        "        loss = loss_function(model(inputs), target)\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.unscale_(optimizer)\n"
        f"{clip}\n"
        "    scaler.step(optimizer)\n"
        "    scaler.update()\n"
        "    return loss.detach()\n"
    )
