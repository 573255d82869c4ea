"""Pre-norm, or DeepNorm's numbers, for a deep post-norm net that grows or does not train.

Xiong et al. 2020, arXiv 2002.04745 (pre-norm); Wang et al. 2022, arXiv 2203.00555 (DeepNorm).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradaudit.records import Finding, Measurements, Remedy
from gradaudit.remedies._code import rounded
from gradaudit.remedies._post_norm import is_deep_post_norm, past_limits, sublayers
from gradaudit.settings import Settings

ORDER = 74

_CODE = """\
# Of the two ways, take one. First: norms before the branches (and one at the end of all blocks).
# torch.nn.TransformerEncoderLayer(..., norm_first=True); in a block of your own:
from torch import nn


class PreNorm(nn.Module):
    \"\"\"x + branch(norm(x)): the gradient passes the sum as it is.\"\"\"

    def __init__(self, branch: nn.Module, width: int) -> None:
        super().__init__()
        self.norm, self.branch = nn.LayerNorm(width), branch

    def forward(self, x):
        return x + self.branch(self.norm(x))


# Second: DeepNorm, which keeps the norm behind the sum.
ALPHA = {alpha}  # (2 N)^(1/4) for N = {layers} layers of two sums each
BETA = {beta}  # (8 N)^(-1/4)


class DeepNorm(nn.Module):
    \"\"\"norm(ALPHA * x + branch(x)).\"\"\"

    def __init__(self, branch: nn.Module, width: int) -> None:
        super().__init__()
        self.norm, self.branch = nn.LayerNorm(width), branch

    def forward(self, x):
        return self.norm(ALPHA * x + self.branch(x))


def draw(weight, of_value_output_or_feed_forward):
    \"\"\"Start values of every weight of a branch; queries and keys keep a gain of 1.\"\"\"
    nn.init.xavier_normal_(weight, gain=BETA if of_value_output_or_feed_forward else 1.0)
"""


def prescribe(
    findings: Sequence[Finding], measurements: Measurements, settings: Settings
) -> Iterable[Remedy]:
    """One remedy, shown, where there are six layers or more of it."""
    answered = past_limits(findings)
    if not answered or not is_deep_post_norm(measurements):
        return
    sums = sublayers(measurements)
    alpha, beta = rounded(sums**0.25), rounded((4 * sums) ** -0.25)
    yield Remedy(
        "pre-norm",
        "architecture",
        f"Normalise before the branches instead of behind the {sums} sums, or keep the norms there "
        f"and weigh the stream by {alpha} (DeepNorm).",
        {"alpha": alpha, "beta": beta, "sublayers": sums},
        _CODE.format(alpha=alpha, beta=beta, layers=f"{sums / 2:g}"),
        "changes architecture: shown, not applied",
        answered,
    )
