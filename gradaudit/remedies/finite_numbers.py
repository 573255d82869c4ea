"""Keep the operation that makes a NaN or an infinity inside its domain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, NonFinite, Remedy
from gradaudit.remedies._layers import codes
from gradaudit.rules.nonfinite import first_producer, spoilt_by_step
from gradaudit.settings import Settings

ORDER = 65

_WEIGHTS = """\
# `model` is your torch.nn.Module. Lists the parameters and buffers that are not finite: load or
# draw them anew. A buffer of infinities is sound only where it masks something out.
for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
    if not tensor.isfinite().all():
        print(name)
"""
_RUN = """\
import torch

# Names the line of your code whose backward pass makes the first NaN.
torch.autograd.set_detect_anomaly(True)
# Keep arguments inside their domain: log(x.clamp_min(1e-6)), sqrt(x + 1e-12), x / (y + 1e-6), and
# in torch.where give the untaken branch a safe argument too.
"""


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, shown: where to look and what helps there.

    None for a weight that the optimizer's step spoilt: its start values are finite.
    """
    first = first_producer(measurements)
    if "GA001" not in codes(findings) or first is None or spoilt_by_step(first):
        return
    weights = first.phase in ("weights", "constant")
    place = (first.parameter if weights else "") or first.module or "the model"
    here = "the constant" if first.phase == "constant" and not first.parameter else f"`{place}`"
    yield Remedy(
        "finite-numbers",
        "architecture",
        f"Give {here}{_line(first)} finite values."
        if weights
        else f"Keep the argument of `{first.op}` in `{place}`{_line(first)} inside its domain.",
        {"phase": first.phase, "op": first.op, "module": first.module, "call": first.call},
        _WEIGHTS if weights else _RUN,
        "changes architecture: shown, not applied",
        ("GA001",),
    )


def _line(first: NonFinite) -> str:
    return f" ({first.file}:{first.line})" if first.file else ""
