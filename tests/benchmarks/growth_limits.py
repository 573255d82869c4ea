"""Where do nets stop training as their gradients grow or shrink? The experiment behind the limits.

``python -m tests.benchmarks.growth_limits`` starts some thirty nets, measures on each how the
gradient grows from the first hidden tensor to the output (plain: squared, ``||J^T u||^2/||u||^2``;
and as the gradient scale coefficient of Philipp et al., arXiv 1712.05577), then really trains it
for up to 1,000 steps by SGD and by Adam on two seeds. It prints one line a net, and the limits on
either number that separate those that trained from those that did not with the fewest errors.

Nothing of the package is used: growth comes from plain float64 autograd with random cotangents.
"Trained": the mean loss over 16 steps fell halfway from the best constant prediction's to what
the task allows.
"""

from __future__ import annotations

import copy
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.benchmarks.train_samples import bounds, load

STEPS, WINDOW, SEEDS, PROBES, WIDTH, CLASSES = 1000, 16, (0, 1), 32, 64, 10
RECIPES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd 0.05": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "adam 1e-3": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
}


class Net(nn.Module):
    """``head(body(inlet(x)))``: growth is taken from the inlet's output to the head's."""

    def __init__(self, inlet: nn.Module, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.inlet, self.body, self.head = inlet, body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.inlet(x)))


class Residual(nn.Module):
    def __init__(self, norm: str) -> None:
        super().__init__()
        self.norm, self.where = nn.LayerNorm(WIDTH), norm
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        nn.init.kaiming_normal_(self.up.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.down.weight, nonlinearity="linear")

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x) if self.where == "pre" else x
        y = x + self.down(self.up(y).relu())
        return self.norm(y) if self.where == "post" else y


class Tokens(nn.Module):
    """Embedding of characters and positions; the causal mask is the body's."""

    def __init__(self, vocabulary: int, context: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(context, WIDTH))
        nn.init.normal_(self.characters.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.characters(x) + self.positions


class Blocks(nn.Module):
    def __init__(self, layers: int, context: int, *, norm_first: bool, large: float = 1.0) -> None:
        super().__init__()
        made = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(
            made, layers, nn.LayerNorm(WIDTH) if norm_first else None, enable_nested_tensor=False
        )
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter, gain=large)
        self.mask = torch.ones(context, context, dtype=torch.bool).triu(diagonal=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x, mask=self.mask)


def dense(variance: float | None, bias: bool = True) -> nn.Linear:
    """A square layer with weight variance ``variance / fan_in``; ``None``: torch's default."""
    layer = nn.Linear(WIDTH, WIDTH, bias=bias)
    if variance is not None:
        nn.init.normal_(layer.weight, std=(variance / WIDTH) ** 0.5)
    if variance is not None and bias:
        nn.init.zeros_(layer.bias)
    return layer


def plain(
    depth: int,
    act: Callable[[], nn.Module],
    variance: float | None,
    *norm: Callable[..., nn.Module],
) -> Net:
    """``depth`` layers of dense, norm, activation."""

    def layer() -> nn.Sequential:
        return nn.Sequential(dense(variance), *(make(WIDTH) for make in norm), act())

    return Net(layer(), nn.Sequential(*(layer() for _ in range(depth - 1))), head())


def orthogonal(depth: int, gain: float) -> Net:
    net = plain(depth, nn.Identity, None)
    for layer in net.modules():
        if isinstance(layer, nn.Linear) and layer is not net.head:
            nn.init.orthogonal_(layer.weight, gain=gain)
            nn.init.zeros_(layer.bias)
    return net


def head() -> nn.Linear:
    return nn.Linear(WIDTH, CLASSES)


def residual(blocks: int, norm: str) -> Net:
    body = nn.Sequential(*(Residual(norm) for _ in range(blocks)))
    return Net(dense(None), body, head())


def convolutional(depth: int, he: bool, norm: bool) -> Net:
    """``depth`` 3 x 3 convolutions of 16 channels on 16 x 16 images, pooled twice."""

    def layer(first: bool = False) -> nn.Sequential:
        convolution = nn.Conv2d(1 if first else 16, 16, 3, padding=1)
        if he:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        norms = [nn.BatchNorm2d(16)] if norm else []
        return nn.Sequential(convolution, *norms, nn.ReLU())

    body = [layer() for _ in range(depth - 1)]
    for place in (1, max(2, depth // 2)):
        body.insert(place, nn.Sequential(nn.MaxPool2d(2)))
    end = nn.Sequential(nn.Flatten(), nn.Linear(16 * 16, 8))
    return Net(layer(first=True), nn.Sequential(*body), end)


def transformer(layers: int, *, norm_first: bool, large: float = 1.0) -> Net:
    module = load("char_transformer")
    context, vocabulary = module.CONTEXT, len(module.ALPHABET)
    body = Blocks(layers, context, norm_first=norm_first, large=large)
    return Net(Tokens(vocabulary, context), body, nn.Linear(WIDTH, vocabulary))


NETS: dict[str, tuple[str, Callable[[], Net]]] = {
    "tanh x20, 1.8/n (critical)": ("teacher", lambda: plain(20, nn.Tanh, 1.8)),
    "tanh x20, default": ("teacher", lambda: plain(20, nn.Tanh, None)),
    "tanh x20, 0.5/n": ("teacher", lambda: plain(20, nn.Tanh, 0.5)),
    "tanh x20, 4/n": ("teacher", lambda: plain(20, nn.Tanh, 4.0)),
    "tanh x30, 9/n": ("teacher", lambda: plain(30, nn.Tanh, 9.0)),
    "tanh x20, 25/n": ("teacher", lambda: plain(20, nn.Tanh, 25.0)),
    "ReLU x3, default": ("teacher", lambda: plain(3, nn.ReLU, None)),
    "ReLU x6, default": ("teacher", lambda: plain(6, nn.ReLU, None)),
    "ReLU x10, default": ("teacher", lambda: plain(10, nn.ReLU, None)),
    "ReLU x20, default": ("teacher", lambda: plain(20, nn.ReLU, None)),
    "ReLU x20, 2/n (He)": ("teacher", lambda: plain(20, nn.ReLU, 2.0)),
    "ReLU x20, 4/n": ("teacher", lambda: plain(20, nn.ReLU, 4.0)),
    "ReLU x20, N(0, 1)": ("teacher", lambda: plain(20, nn.ReLU, float(WIDTH))),
    "GELU x20, default": ("teacher", lambda: plain(20, nn.GELU, None)),
    "SELU x20, 1/n (LeCun)": ("teacher", lambda: plain(20, nn.SELU, 1.0)),
    "linear x20, orthogonal": ("teacher", lambda: orthogonal(20, 1.0)),
    "linear x20, orthogonal x 1.5": ("teacher", lambda: orthogonal(20, 1.5)),
    "linear x20, default": ("teacher", lambda: plain(20, nn.Identity, None)),
    "LayerNorm ReLU x20": ("teacher", lambda: plain(20, nn.ReLU, 2.0, nn.LayerNorm)),
    "BatchNorm ReLU x10": ("teacher", lambda: plain(10, nn.ReLU, None, nn.BatchNorm1d)),
    "BatchNorm ReLU x20": ("teacher", lambda: plain(20, nn.ReLU, None, nn.BatchNorm1d)),
    "BatchNorm ReLU x50": ("teacher", lambda: plain(50, nn.ReLU, None, nn.BatchNorm1d)),
    "residual x10, no norm": ("teacher", lambda: residual(10, "none")),
    "residual x40, no norm": ("teacher", lambda: residual(40, "none")),
    "residual x20, pre-norm": ("teacher", lambda: residual(20, "pre")),
    "residual x20, post-norm": ("teacher", lambda: residual(20, "post")),
    "CNN x3, default": ("gratings", lambda: convolutional(3, False, False)),
    "CNN x12, default": ("gratings", lambda: convolutional(12, False, False)),
    "CNN x12, He": ("gratings", lambda: convolutional(12, True, False)),
    "CNN x12, BatchNorm": ("gratings", lambda: convolutional(12, False, True)),
    "transformer x6, pre-norm": ("text", lambda: transformer(6, norm_first=True)),
    "transformer x6, post-norm": ("text", lambda: transformer(6, norm_first=False)),
    "transformer x6, pre-norm, x 4": ("text", lambda: transformer(6, norm_first=True, large=4.0)),
}


def task(name: str) -> tuple[Tensor, Tensor]:
    """1,024 samples of a linear teacher, or a sample's gratings or text."""
    if name != "teacher":
        made = load("sound_cnn" if name == "gratings" else "char_transformer").data()
        return made["x"], made["y"]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1024, WIDTH, generator=generator)
    return x, (x @ torch.randn(WIDTH, CLASSES, generator=generator)).argmax(dim=1)


def growth(net: Net, x: Tensor) -> tuple[float, float]:
    """log10 of the plain squared growth, and the gradient scale coefficient (not squared)."""
    twin = copy.deepcopy(net).double()
    with torch.no_grad():
        hidden = twin.inlet(x.double() if x.is_floating_point() else x)
    hidden = hidden.detach().requires_grad_()
    output = twin.head(twin.body(hidden))
    sizes = float(hidden.detach().norm() / output.detach().norm())
    generator = torch.Generator().manual_seed(2)
    pulled = []
    for _ in range(PROBES):
        u = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        (back,) = torch.autograd.grad(output, hidden, u, retain_graph=True)
        pulled.append(float(back.square().sum()))
    frobenius = statistics.fmean(pulled)  # of the batch's Jacobian, squared
    return math.log10(frobenius / output.numel()), math.sqrt(frobenius / hidden.numel()) * sizes


def trains(net: Net, x: Tensor, y: Tensor, recipe: str, seed: int) -> bool:
    """Whether 1,000 steps of the recipe bring the loss halfway."""
    constant, floor = bounds(x, y)
    optimizer = RECIPES[recipe](net.parameters())
    generator = torch.Generator().manual_seed(seed)
    recent: list[float] = []
    for _ in range(STEPS):
        rows = torch.randint(len(x), (32,), generator=generator)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x[rows]).flatten(0, -2), y[rows].flatten())
        loss.backward()
        optimizer.step()
        recent = [*recent[1 - WINDOW :], loss.item()]
        if not math.isfinite(recent[-1]):
            return False
        if len(recent) == WINDOW and statistics.fmean(recent) <= (constant + floor) / 2:
            return True
    return False


@dataclass(frozen=True)
class Row:
    name: str
    growth: float  # log10, mean over seeds
    gsc: float  # log10, mean over seeds
    trained: dict[str, int]  # recipe -> seeds that trained

    @property
    def outcome(self) -> str:
        """Over all seeds and recipes."""
        runs = sum(self.trained.values())
        every = len(SEEDS) * len(self.trained)
        return "trained" if runs == every else "some" if runs else "did not"


def measure(name: str) -> Row:
    kind, make = NETS[name]
    x, y = task(kind)
    growths, gscs = [], []
    trained = dict.fromkeys(RECIPES, 0)
    for seed in SEEDS:
        torch.manual_seed(seed)
        net = make()
        plain_growth, gsc = growth(net, x[:32])
        growths.append(plain_growth)
        gscs.append(math.log10(gsc))
        for recipe in RECIPES:
            trained[recipe] += trains(copy.deepcopy(net), x, y, recipe, seed)
    return Row(name, statistics.fmean(growths), statistics.fmean(gscs), trained)


def best_limits(values: list[float], sound: list[bool]) -> tuple[float, float, int]:
    """``(low, high, errors)``: the band with the fewest errors, its edges amid the widest gaps."""
    ordered = sorted(values)
    amid = ((a + b) / 2 for a, b in pairwise(ordered))
    cuts = [ordered[0] - 3, *amid, ordered[-1] + 3]

    def gap(cut: float) -> float:
        return min(abs(cut - value) for value in values)

    bands = [(low, high) for low in cuts for high in cuts if low < high]
    return min(
        (
            (low, high, sum((low < v < high) != s for v, s in zip(values, sound, strict=True)))
            for low, high in bands
        ),
        key=lambda band: (band[2], -gap(band[0]) - gap(band[1])),
    )


def main() -> int:
    torch.set_num_threads(1)
    head_line = f"{'net':32}{'log10 growth':>13}{'GSC':>10}"
    print(head_line + "".join(f"{recipe:>11}" for recipe in RECIPES), flush=True)
    rows = []
    for name in NETS:
        rows.append(measure(name))
        row = rows[-1]
        counts = "".join(f"{f'{row.trained[r]}/{len(SEEDS)}':>11}" for r in RECIPES)
        print(f"{name:32}{row.growth:13.1f}{10**row.gsc:10.3g}{counts}  {row.outcome}", flush=True)
    report(rows)
    return 0


def report(rows: list[Row]) -> None:
    """What the nets that trained span, and the limits that separate best.

    Limits are fitted to nets that trained in every run or in none; the others are listed.
    """
    for label, value in (("log10 growth", _growth), ("log10 GSC", _gsc)):
        clear = [row for row in rows if row.outcome != "some"]
        values = [value(row) for row in clear]
        good = [value(row) for row in clear if row.outcome == "trained"]
        low, high, errors = best_limits(values, [row.outcome == "trained" for row in clear])
        print(
            f"{label}: nets that trained span {min(good):.1f} to {max(good):.1f}; "
            f"best limits {low:.1f} and {high:.1f}: {errors} of {len(clear)} wrong"
        )
        within = {row.name: low < value(row) < high for row in rows}
        wrong = [row.name for row in clear if within[row.name] != (row.outcome == "trained")]
        print(f"    wrong: {'; '.join(wrong) or 'none'}")
        some = [row.name for row in rows if row.outcome == "some"]
        print(f"    some runs trained, inside: {'; '.join(n for n in some if within[n])}")
        print(f"    some runs trained, outside: {'; '.join(n for n in some if not within[n])}")


def _growth(row: Row) -> float:
    return row.growth


def _gsc(row: Row) -> float:
    return row.gsc


if __name__ == "__main__":
    sys.exit(main())
