"""Skip connections, for growth and collapse that no start values can mend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies import initialization, residual_branches
from gradaudit.remedies._layers import codes, may_reset
from gradaudit.remedies._post_norm import is_deep_post_norm
from gradaudit.settings import Settings

ORDER = 75

_CODE = """\
from torch import nn


class Residual(nn.Module):
    \"\"\"x + branch(norm(x)): the gradient always has the short way back.\"\"\"

    def __init__(self, branch: nn.Module, width: int) -> None:
        super().__init__()
        self.norm, self.branch = nn.LayerNorm(width), branch

    def forward(self, x):
        return x + self.branch(self.norm(x))
"""


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, shown, where growth is out of limits, or samples are no longer told apart, and no
    start values are to blame.

    A deep plain net with batch normalisation grows by 1.47 per layer whatever its weights are (Yang
    et al. 2019, arXiv 1902.08129); He et al. 2016, arXiv 1603.05027 for the block.
    """
    answered = codes(findings) & {"GA101", "GA102", "GA404"}
    if not answered or not may_reset(measurements) or is_deep_post_norm(measurements):
        return
    for each in (initialization, residual_branches):
        if any(True for _ in each.prescribe(findings, measurements, settings)):
            return
    yield Remedy(
        "skip-connections",
        "architecture",
        "Let skip connections carry what tells samples apart past the layers that lose it."
        if answered == {"GA404"}
        else "Let skip connections carry the gradient: no start values explain this growth.",
        {},
        _CODE,
        "changes architecture: shown, not applied",
        tuple(sorted(answered)),
    )
