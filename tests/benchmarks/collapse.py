"""Which attention and which representations are too collapsed to start from? Behind two limits.

``python -m tests.benchmarks.collapse [attention] [samples]`` trains and prints one line a net.

*attention*: transformers whose query and key weights are made larger, so that each query looks at
one key. The task needs attention: say at the last position which symbol stands behind the marker.

*samples*: the nets of :mod:`tests.benchmarks.growth_limits` and some more of the ordered phase. How
alike are the outputs of different samples in the last hidden layer, and do such nets train?

"Trained": the mean loss over 16 steps fell halfway from the best constant prediction's to what the
task allows, within 1,000 steps.
"""

from __future__ import annotations

import copy
import math
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradaudit.probes.attention import measure_attention
from gradaudit.probes.gradients import measure_real_loss
from gradaudit.records import AttentionRow
from gradaudit.settings import Settings
from gradaudit.subject import borrowed
from tests.benchmarks.growth_limits import (
    NETS,
    RECIPES,
    SEEDS,
    WIDTH,
    WINDOW,
    Net,
    dense,
    head,
    plain,
    task,
    trains,
)
from tests.probes.lossy import Loss, opened

SYMBOLS, LENGTH, STEPS, HEADS = 8, 16, 1000, 4
SCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)  # of the logits


class Recall(nn.Module):
    """``int64[batch, 16]`` of symbols and one marker to scores of the symbol behind the marker."""

    def __init__(self, scale: float, *, norm_first: bool, layers: int = 2) -> None:
        super().__init__()
        self.symbols = nn.Embedding(SYMBOLS + 1, WIDTH)
        self.positions = nn.Parameter(torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, SYMBOLS)
        with torch.no_grad():
            for block in self.encoder.layers:
                block.self_attn.in_proj_weight[: 2 * WIDTH] *= scale**0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.symbols(x) + self.positions)[:, -1])


def recall_task(count: int = 4096) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(SYMBOLS, (count, LENGTH), generator=generator)
    place = torch.randint(LENGTH - 2, (count,), generator=generator)
    y = x[torch.arange(count), place + 1]
    x[torch.arange(count), place] = SYMBOLS
    return x, y


def steps_to_learn(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> int | None:
    """Steps of Adam until the loss is halfway from ln C to 0; ``None`` if 1,000 are not enough.

    SGD does not learn this task in 1,000 steps at any scale.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    recent: list[float] = []
    for step in range(STEPS):
        rows = torch.randint(len(x), (32,), generator=generator)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        recent = [*recent[1 - WINDOW :], loss.item()]
        if not math.isfinite(recent[-1]):
            return None
        if len(recent) == WINDOW and statistics.fmean(recent) <= 0.5 * math.log(SYMBOLS):
            return step
    return None


def attention() -> None:
    x, y = recall_task()
    print(f"{'transformer':12}{'logits x':>9}{'entropy':>9}{'lowest':>8}{'largest':>9}", end="")
    print("   steps of Adam to learn, by seed", flush=True)
    for norm_first in (True, False):
        for scale in SCALES:
            rows: list[AttentionRow] = []
            learned: list[int | None] = []
            for seed in SEEDS:
                torch.manual_seed(seed)
                net = Recall(scale, norm_first=norm_first)
                with borrowed(net, training=True):
                    rows += measure_attention(opened(net, [(x[:32], y[:32])]), Settings())[0]
                learned.append(steps_to_learn(net, x, y, seed))
            share = min(row.entropy.value for row in rows if row.entropy)
            lowest = min(row.lowest_entropy or 0.0 for row in rows)
            logit = max(row.largest_logit or 0.0 for row in rows)
            print(
                f"{'pre-norm' if norm_first else 'post-norm':12}{scale:9g}{share:9.3f}{lowest:8.3f}"
                f"{logit:9.3g}   {', '.join('never' if n is None else str(n) for n in learned)}",
                flush=True,
            )


def shifted(depth: int, act: Callable[[], nn.Module], variance: float, bias: float) -> Net:
    """Dense layers whose biases have deviation ``bias``: the ordered phase."""
    net = plain(depth, act, variance)
    for layer in net.modules():
        if isinstance(layer, nn.Linear) and layer is not net.head:
            nn.init.normal_(layer.bias, std=bias)
    return net


MORE: dict[str, tuple[str, Callable[[], Net]]] = {
    "tanh x5, 1/n, bias 1": ("teacher", lambda: shifted(5, nn.Tanh, 1.0, 1.0)),
    "tanh x10, 1/n, bias 1": ("teacher", lambda: shifted(10, nn.Tanh, 1.0, 1.0)),
    "tanh x20, 1.8/n, bias 0.3": ("teacher", lambda: shifted(20, nn.Tanh, 1.8, 0.3)),
    "tanh x10, 0.5/n, bias 0.3": ("teacher", lambda: shifted(10, nn.Tanh, 0.5, 0.3)),
    "tanh x50, 1.8/n": ("teacher", lambda: plain(50, nn.Tanh, 1.8)),
    "ReLU x2, 2/n, bias 3": ("teacher", lambda: shifted(2, nn.ReLU, 2.0, 3.0)),
    "ReLU x5, 2/n, bias 1": ("teacher", lambda: shifted(5, nn.ReLU, 2.0, 1.0)),
    "ReLU x10, 2/n, bias 1": ("teacher", lambda: shifted(10, nn.ReLU, 2.0, 1.0)),
    "ReLU x10, 2/n (He)": ("teacher", lambda: plain(10, nn.ReLU, 2.0)),
    "ReLU x50, 2/n (He)": ("teacher", lambda: plain(50, nn.ReLU, 2.0)),
    "ReLU x100, 2/n (He)": ("teacher", lambda: plain(100, nn.ReLU, 2.0)),
    "sigmoid x2, default": ("teacher", lambda: plain(2, nn.Sigmoid, None)),
    "sigmoid x4, default": ("teacher", lambda: plain(4, nn.Sigmoid, None)),
    "sigmoid x10, default": ("teacher", lambda: plain(10, nn.Sigmoid, None)),
    "sigmoid x5, 16/n": ("teacher", lambda: plain(5, nn.Sigmoid, 16.0)),
    "GELU x8, default": ("teacher", lambda: plain(8, nn.GELU, None)),
    "dense x1": ("teacher", lambda: Net(dense(None), nn.Identity(), head())),
}


def measured(net: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """Correlation in the first and the last hidden layer with weights, least effective rank."""
    loss = Loss(lambda output, target: F.cross_entropy(output.flatten(0, -2), target.flatten()))
    with borrowed(net, training=True):
        seen = measure_real_loss(opened(net, [(x[:32], y[:32])], loss), Settings(effort="quick"))
    rows = [
        row
        for row in seen.modules
        if row.sample_correlation is not None and row.module not in ("", "head")
    ]
    ranks = [row.effective_rank or 0.0 for row in rows]
    return rows[0].sample_correlation or 0.0, rows[-1].sample_correlation or 0.0, min(ranks)


def samples() -> None:
    print(f"{'net':32}{'1-corr first':>13}{'last hidden':>13}{'least rank':>11}", end="")
    print("".join(f"{recipe:>11}" for recipe in RECIPES), flush=True)
    for name, (kind, make) in {**MORE, **NETS}.items():
        x, y = task(kind)
        found, counts = [], dict.fromkeys(RECIPES, 0)
        for seed in SEEDS:
            torch.manual_seed(seed)
            net = make()
            found.append(measured(net, x, y))
            for recipe in RECIPES:
                counts[recipe] += trains(copy.deepcopy(net), x, y, recipe, seed)
        first, last, rank = (statistics.fmean(column) for column in zip(*found, strict=True))
        print(
            f"{name:32}{1 - first:13.2g}{1 - last:13.2g}{rank:11.2f}"
            + "".join(f"{f'{counts[r]}/{len(SEEDS)}':>11}" for r in RECIPES),
            flush=True,
        )


PARTS = {"attention": attention, "samples": samples}


def main() -> int:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
