"""Shrink embeddings drawn from N(0, 1) that reach attention or the head many times too large.

``nn.Embedding`` draws from N(0, 1); multiplied by ``sqrt(width)`` as in Vaswani et al. 2017, arXiv
1706.03762, 3.4, its entries are ``sqrt(width)`` where attention expects 1. There the standard
deviation is meant to be ``1 / sqrt(width)``. A table tied to the output is :mod:`head_scale`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy, WeightRow
from gradaudit.remedies._code import MODEL, dict_literal, rounded
from gradaudit.remedies._layers import codes, is_parameter, may_reset
from gradaudit.rules._initialization import normed_stages
from gradaudit.rules.collapsed_attention import collapsed_calls
from gradaudit.settings import Settings

ORDER = 33

_LARGE = 0.5  # rms of a table: N(0, 1), not the 0.02 of GPT-2 or 1 / sqrt(width)
_SOUND = 2.0  # x 1 / sqrt(fan_in): query and key weights that do not explain a collapse themselves
_LARGE_FEATURES = 3.0  # rms before the head: torch's own start of it gives logits of 1.7 then


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy for all tables, where nothing rescales what they hand on."""
    answered = blamed(findings, measurements, settings)
    if not answered:
        return
    std = {row.parameter: rounded(1 / math.sqrt(row.shape[-1])) for row in _tables(measurements)}
    names = ", ".join(f"`{name}`" for name in list(std)[:3]) + (", ..." if len(std) > 3 else "")
    yield Remedy(
        "embedding-scale",
        "initialization",
        f"Shrink {names} to a standard deviation of 1 / sqrt(width).",
        {"std": std},
        f"{MODEL}\n"
        "import torch\n"
        "\n"
        f"{dict_literal('STD', std)}\n"
        "with torch.no_grad():\n"
        "    for name, std in STD.items():  # a row of zeros for padding stays one\n"
        "        table = model.get_parameter(name)\n"
        "        table.mul_(std / table.square().mean().sqrt())\n",
        "changes start values",
        answered,
        sets=tuple(std),
    )


def blamed(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> tuple[str, ...]:
    """Codes of the findings that come from the size of the embeddings."""
    if not may_reset(measurements) or not _tables(measurements):
        return ()
    found = codes(findings)
    attention = "GA403" in found and _reaches_attention(measurements, settings)
    head = "GA503" in found and _reaches_head(measurements)
    return tuple(code for code, it in (("GA403", attention), ("GA503", head)) if it)


def _tables(measurements: Measurements) -> list[WeightRow]:
    tied = {name for s in measurements.stages if s.role == "head" for name in s.parameters}
    return [
        row
        for row in measurements.weights
        if row.kind == "embedding"
        and row.rms > _LARGE
        and row.parameter not in tied
        and is_parameter(row.parameter, measurements)
    ]


def _reaches_attention(measurements: Measurements, settings: Settings) -> bool:
    """Whether the first attention collapses by its input alone, with no norm in between."""
    first = measurements.attention[0].module if measurements.attention else ""
    if first not in {row.module for row, _ in collapsed_calls(measurements, settings)}:
        return False
    for row in measurements.modules:
        if row.module == first or row.module.startswith(f"{first}."):
            break
        if "norm" in row.type.lower():
            return False
    own = [w for w in measurements.weights if f"{w.module}.".startswith(f"{first}.")]
    return bool(own) and all(w.rms * math.sqrt(w.fan_in) <= _SOUND for w in own)


def _reaches_head(measurements: Measurements) -> bool:
    """Whether what the head is given is many times too large, with no norm on the way."""
    before = [stage.output_rms for stage in measurements.stages if stage.role != "head"]
    large = bool(before) and (before[-1] or 0.0) > _LARGE_FEATURES
    return large and not normed_stages(measurements)
