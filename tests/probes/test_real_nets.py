"""Growth, forward gain, GSC and singular values of real nets, against float64 brute force.

Every net is written twice: as a user would, and as the list of its stages, whose Jacobians are then
computed one output entry at a time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradaudit.probes.forward_gain import measure_forward_gain
from gradaudit.probes.growth import Growth, measure_growth
from gradaudit.probes.singular_values import measure_singular_values
from gradaudit.records import Estimate, NotMeasured, StageRow, TrunkRow
from gradaudit.settings import Settings
from gradaudit.subject import borrowed
from tests.jacobians import stage_jacobians, through_to_output
from tests.probes.lossy import Loss
from tests.subjects import opened

SETTINGS = Settings(effort="thorough")
Stages = list[Callable[[Tensor], Tensor]]


@dataclass
class Case:
    """A net with its input, and how the same net splits into stages (of its float64 copy)."""

    model: nn.Module
    inputs: tuple[Any, ...]
    stages: Callable[[Any], Stages]
    start: Callable[[Any], Tensor] | None = None  # the first trunk tensor, if not the first input
    keywords: dict[str, Any] = field(default_factory=dict)
    loss: Callable[[Any], Tensor] | None = None


class Measured(NamedTuple):
    rows: tuple[StageRow, ...]
    trunk: TrunkRow
    growth: Growth
    gaps: tuple[NotMeasured, ...]


def measured(case: Case, settings: Settings = SETTINGS) -> Measured:
    """All three probes, as the audit runs them."""
    total = case.loss or (lambda output: output.square().mean())
    loss = Loss(lambda output, _target: total(output))
    subject = opened(case.model, *case.inputs, objective=loss, **case.keywords)
    with borrowed(case.model):
        growth = measure_growth(subject, settings)
        rows, forward_gaps = measure_forward_gain(subject, growth, settings)
        values, trunk, gaps = measure_singular_values(subject, growth, settings, cheap=True)
    both = tuple(
        StageRow(**{**vars(row), "top_singular_values": value.top_singular_values})
        for row, value in zip(rows, values, strict=True)
    )
    return Measured(both, trunk, growth, (*growth.not_measured, *forward_gaps, *gaps))


def truths(case: Case) -> tuple[list[Tensor], list[Tensor]]:
    """Each stage's Jacobian, and its input and the last output as tensors."""
    model = copy.deepcopy(case.model).double()
    start = case.start(model).detach() if case.start else case.inputs[0].double()
    stages = case.stages(model)
    jacobians = stage_jacobians(stages, start)
    tensors = [start]
    with torch.no_grad():
        for stage in stages:
            tensors.append(stage(tensors[-1].clone()))
    return jacobians, tensors


def rms(tensor: Tensor) -> float:
    return float(tensor.square().mean().sqrt())


def near(estimate: Estimate | None, truth: float) -> bool:
    """Within twice the 95% interval's reach: for one fixed seed, not luck but a defect if not."""
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    slack = 1e-4 * abs(truth)
    return estimate.value - 2 * below - slack <= truth <= estimate.value + 2 * above + slack


def within(estimates: tuple[Estimate, ...], truth: Tensor) -> bool:
    """Whether each interval holds the singular value of its rank; as many as there are to give."""
    assert len(estimates) == min(3, len(truth))
    tiny = 1e-9 * float(truth[0])
    return all(
        e.low is not None
        and e.high is not None
        and e.low - tiny <= t <= e.high + tiny
        and e.value >= 0.9 * t - tiny
        for e, t in zip(estimates, truth[:3].tolist(), strict=True)
    )


# The nets


def mlp() -> Case:
    net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3))
    return Case(net, (torch.randn(4, 6),), lambda m: [m[0:2], m[2:4], m[4]])


def cnn() -> Case:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip
    return Case(net, (torch.randn(3, 2, 8, 8),), lambda m: [m[0:4], m[4:7], m[7]])


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)  # called twice
        self.down: nn.Module = nn.Identity()
        if stride > 1:
            self.down = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.down(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(4, 4, 1), BasicBlock(4, 4, 1))
        self.layer2 = nn.Sequential(BasicBlock(4, 6, 2), BasicBlock(6, 6, 1))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.relu(self.stem(x))))
        return self.fc(self.pool(x).flatten(1))


def resnet() -> Case:
    def stages(m: ResNet) -> Stages:
        return [
            lambda x: m.relu(m.stem(x)),
            *m.layer1,
            *m.layer2,
            lambda x: m.fc(m.pool(x).flatten(1)),
        ]

    return Case(ResNet(), (torch.randn(3, 2, 6, 6),), stages)


def encoder(norm_first: bool) -> Case:
    layer = nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    net = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    return Case(net, (torch.randn(2, 4, 8),), lambda m: list(m.layers))


def gpt2() -> Case:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=2, n_embd=12, n_head=2, vocab_size=17, n_positions=8, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        loss_type="ForCausalLMLoss",
    )  # fmt: skip
    ids = torch.randint(0, 17, (2, 4))

    def block(layer: nn.Module) -> Callable[[Tensor], Tensor]:
        def run(h: Tensor) -> Tensor:
            out = layer(h)
            return out[0] if isinstance(out, tuple) else out

        return run

    def stages(m: Any) -> Stages:
        return [*map(block, m.transformer.h), lambda h: m.lm_head(m.transformer.ln_f(h))]

    def start(m: Any) -> Tensor:
        return m.transformer.wte(ids) + m.transformer.wpe(torch.arange(4))

    net = transformers.GPT2LMHeadModel(config).train()
    keywords = {"input_ids": ids, "labels": ids}
    return Case(net, (), stages, start, keywords, loss=lambda output: output.loss)


class Recurrent(nn.Module):
    """An LSTM between two dense layers; its last output is read."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, 5), nn.Linear(6, 2)
        self.rnn = getattr(nn, kind)(5, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.enter(x))[0][:, -1])


def recurrent(kind: str) -> Case:
    def stages(m: Recurrent) -> Stages:
        if kind == "LSTM":  # one kernel, to which what it is read by is joined
            return [m.enter, lambda x: m.rnn(x)[0][:, -1], m.head]
        return [m.enter, lambda x: m.rnn(x)[0], lambda x: m.head(x[:, -1])]

    return Case(Recurrent(kind), (torch.randn(3, 4, 3),), stages)


class CellLoop(nn.Module):
    """A hand-written loop over time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(3, 6), nn.Linear(6, 2)

    def last(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 6)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(x))


def cell_loop() -> Case:
    return Case(CellLoop(), (torch.randn(3, 4, 3),), lambda m: [m.last, m.head])


class SharedLoop(nn.Module):
    """One module called in a loop, and weights tied between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.body(x))
        return self.b(torch.tanh(self.a(x)))


def shared_loop() -> Case:
    def stages(m: SharedLoop) -> Stages:
        def again(x: Tensor) -> Tensor:
            return torch.tanh(m.body(x))

        return [again, again, again, lambda x: torch.tanh(m.a(x)), m.b]

    return Case(SharedLoop(), (torch.randn(3, 6),), stages)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


def checkpointed() -> Case:
    return Case(Checkpointed(reentrant=False), (torch.randn(4, 6),), lambda m: list(m.blocks))


def lazy() -> Case:
    net = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(8), nn.Tanh(), nn.Linear(8, 2))
    x = torch.randn(3, 5)
    net(
        x
    )  # torch cannot copy what has no shape yet; that lazy modules can be probed is tested apart
    return Case(net, (x,), lambda m: [m[0:2], m[2:4], m[4]])


class Spectrum(nn.Module):
    """Complex numbers in the middle (a filter on the Fourier coefficients), integers beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.mix, self.leave = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.filter = nn.Parameter(torch.randn(5, dtype=torch.complex64))

    def middle(self, x: Tensor) -> Tensor:
        coefficients = torch.fft.rfft(torch.tanh(x)) * self.filter
        order = coefficients.abs().sum(0).argsort()  # integers
        return torch.fft.irfft(coefficients[:, order], n=8)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.middle(self.mix(self.enter(x))))


def spectrum() -> Case:
    def stages(m: Spectrum) -> Stages:
        m.filter.data = m.filter.data.to(torch.complex128)
        return [m.enter, lambda x: m.middle(m.mix(x)), m.leave]

    return Case(Spectrum(), (torch.randn(3, 6),), stages)


@dataclass
class Answer:
    logits: Tensor
    hidden: Tensor


class Mixture(nn.Module):
    """Two inputs meet, experts are mixed by a gate, two outputs come back in ``form``."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.left, self.right = nn.Linear(4, 6), nn.Linear(3, 6)
        self.gate = nn.Linear(6, 2)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.one, self.two = nn.Linear(6, 3), nn.Linear(6, 2)

    def mix(self, h: Tensor) -> Tensor:
        weights = self.gate(h).softmax(-1)
        return sum(weights[:, i : i + 1] * e(h).tanh() for i, e in enumerate(self.experts))  # type: ignore[return-value]

    def forward(self, a: Tensor, b: Tensor) -> Any:
        h = self.mix(torch.tanh(self.left(a) + self.right(b)))
        one, two = self.one(h), self.two(h)
        if self.form == "dict":
            return {"one": one, "two": two}
        return (one, two) if self.form == "tuple" else Answer(one, two)


def mixture(form: str) -> Case:
    a, b = torch.randn(3, 4), torch.randn(3, 3)

    def stages(m: Mixture) -> Stages:
        def meet(ab: Tensor) -> Tensor:
            left, right = ab[:12].view(3, 4), ab[12:].view(3, 3)
            return torch.tanh(m.left(left) + m.right(right))

        def leave(h: Tensor) -> Tensor:
            return torch.cat([m.one(h).flatten(), m.two(h).flatten()])

        return [meet, m.mix, leave]

    def start(_model: Mixture) -> Tensor:
        return torch.cat([a.flatten(), b.flatten()]).double()

    def loss(output: Any) -> Tensor:
        if isinstance(output, dict):
            output = tuple(output.values())
        one, two = output if isinstance(output, tuple) else (output.logits, output.hidden)
        return one.square().mean() + two.square().mean()

    return Case(Mixture(form), (a, b), stages, start, loss=loss)


class Halves(nn.Module):
    """A split in the middle, and one at the end: one operation with two results."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(4, 4), nn.Linear(8, 6)

    def middle(self, h: Tensor) -> Tensor:
        left, right = h.chunk(2, dim=-1)
        return torch.cat([self.b(left), 2 * right], dim=-1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.c(self.middle(self.a(x))).chunk(2, dim=-1)


def halves() -> Case:
    def loss(output: tuple[Tensor, ...]) -> Tensor:
        return output[0].square().mean() + output[1].square().mean()

    stages: Callable[[Any], Stages] = lambda m: [m.a, m.middle, m.c]  # noqa: E731
    return Case(Halves(), (torch.randn(3, 4),), stages, loss=loss)


CASES: dict[str, Callable[[], Case]] = {
    "MLP": mlp,
    "CNN, in-place ReLU": cnn,
    "ResNet": resnet,
    "transformer, pre-norm": lambda: encoder(norm_first=True),
    "transformer, post-norm": lambda: encoder(norm_first=False),
    "GPT-2": gpt2,
    "RNN": lambda: recurrent("RNN"),
    "LSTM": lambda: recurrent("LSTM"),
    "GRU": lambda: recurrent("GRU"),
    "cell in a loop": cell_loop,
    "shared modules in a loop": shared_loop,
    "checkpoint": checkpointed,
    "lazy modules": lazy,
    "complex and integer tensors": spectrum,
    "split results": halves,
    "mixture, dict": lambda: mixture("dict"),
    "mixture, tuple": lambda: mixture("tuple"),
    "mixture, dataclass": lambda: mixture("dataclass"),
}


def case_of(name: str) -> Case:
    torch.manual_seed(20)
    return CASES[name]()


@pytest.mark.parametrize("name", CASES)
def test_every_number_of_a_real_net_is_the_brute_force_one(name: str) -> None:
    case = case_of(name)
    jacobians, tensors = truths(case)
    found = measured(case)
    assert found.trunk.found
    assert len(found.rows) == len(jacobians)
    assert found.gaps == ()
    chain = through_to_output(jacobians)
    squares = [*(float(j.square().sum()) for j in chain), float(chain[-1].shape[0])]
    ahead = torch.eye(tensors[0].numel(), dtype=torch.float64)
    for i, row in enumerate(found.rows):
        assert near(row.jacobian_norm_log10, math.log10(squares[i]) / 2), row.name
        gain = squares[i] / squares[i + 1]
        assert near(row.backward_gain, gain), row.name
        assert near(row.gsc, math.sqrt(gain) * rms(tensors[i]) / rms(tensors[i + 1])), row.name
        behind = jacobians[i] @ ahead
        forward = float(behind.square().sum() / ahead.square().sum())
        assert near(row.forward_gain, forward), row.name
        ahead = behind
        assert within(row.top_singular_values, torch.linalg.svdvals(jacobians[i])), row.name
    hidden = 1 if found.rows[0].role == "inlet" else 0
    assert within(found.trunk.top_singular_values, torch.linalg.svdvals(chain[hidden]))


def test_only_one_of_several_inputs_may_carry_the_trunk() -> None:
    """A decoder attends to an encoder: the trunk is the encoder's, the rest enters beside it."""
    torch.manual_seed(21)
    model = nn.Transformer(8, 2, 3, 1, 16, dropout=0.0, batch_first=True)
    source, target = torch.randn(2, 3, 8), torch.randn(2, 2, 8)
    case = Case(
        model,
        (source, target),
        lambda m: [
            *m.encoder.layers[:-1],
            lambda h: m.decoder(target.double(), m.encoder.norm(m.encoder.layers[-1](h))),
        ],
    )
    jacobians, _ = truths(case)
    found = measured(case)
    assert found.gaps == ()
    assert found.growth.source == 0
    assert [row.name for row in found.rows][:2] == ["encoder.layers.0", "encoder.layers.1"]
    chain = through_to_output(jacobians)
    ahead = torch.eye(source.numel(), dtype=torch.float64)
    for i in (0, 1):
        assert near(found.rows[i].jacobian_norm_log10, math.log10(float(chain[i].norm())))
        behind = jacobians[i] @ ahead
        forward = float(behind.square().sum() / ahead.square().sum())
        assert near(found.rows[i].forward_gain, forward)
        assert within(found.rows[i].top_singular_values, torch.linalg.svdvals(jacobians[i]))
        ahead = behind
    # the encoder's layers are blocks of a stream, so nothing is an inlet
    assert within(found.trunk.top_singular_values, torch.linalg.svdvals(chain[0]))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def conv(i: int, o: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.Tanh())

        self.down = nn.ModuleList([conv(1, 2), conv(2, 3), conv(3, 4)])
        self.up = nn.ModuleList([conv(7, 3), conv(5, 2)])
        self.out = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down[0](x)
        b = self.down[1](F.avg_pool2d(a, 2))
        c = F.interpolate(self.down[2](F.avg_pool2d(b, 2)), scale_factor=2)
        d = F.interpolate(self.up[0](torch.cat([c, b], 1)), scale_factor=2)
        return self.out(self.up[1](torch.cat([d, a], 1)))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2 + 2 * i, 2, 3, padding=1) for i in range(5))
        self.enter, self.leave = nn.Conv2d(1, 2, 1), nn.Conv2d(12, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.enter(x)]
        for conv in self.convs:
            features.append(torch.tanh(conv(torch.cat(features, 1))))
        return self.leave(torch.cat(features, 1))


@pytest.mark.parametrize("build", [UNet, DenseNet])
def test_without_a_trunk_every_module_call_has_its_own_jacobian_norm(
    build: Callable[[], nn.Module],
) -> None:
    """d output / d (what the call before it returned), by brute force; the rest is said."""
    torch.manual_seed(22)
    model, x = build(), torch.randn(2, 1, 4, 4)
    found = measured(Case(model, (x,), lambda _: []))
    assert not found.trunk.found
    whys = {gap.what: gap.why for gap in found.gaps}
    assert "execution order" in whys["growth along a trunk"]
    assert whys["forward gain"] == whys["singular values of stages"] == "there is no trunk"
    double, returned = copy.deepcopy(model).double(), {}
    for name, module in double.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(lambda _m, _i, o, name=name: returned.update({name: o}))
    entering = x.double().requires_grad_()
    output = double(entering)
    starts = [entering, *list(returned.values())[:-1]]
    assert [row.name for row in found.rows] == list(returned)
    for row, start in zip(found.rows, starts, strict=True):
        squares = sum(
            float(torch.autograd.grad(entry, start, retain_graph=True)[0].square().sum())
            for entry in output.flatten()
        )
        assert near(row.jacobian_norm_log10, math.log10(squares) / 2), row.name


@pytest.mark.parametrize("frozen", [False, True])
def test_reentrant_checkpoints_have_the_gains_of_the_plain_net(frozen: bool) -> None:
    """Also where the input takes no gradient, which in training leaves the blocks without one."""
    torch.manual_seed(23)
    case = Case(Checkpointed(reentrant=True), (torch.randn(4, 6),), lambda m: list(m.blocks))
    if not frozen:
        case.inputs[0].requires_grad_()
    chain = through_to_output(truths(case)[0])
    found = measured(case)
    norms = [float(j.norm()) for j in chain]
    for row, norm in zip(found.rows, norms, strict=True):
        assert near(row.jacobian_norm_log10, math.log10(norm))
    whys = {gap.what: gap.why for gap in found.gaps}
    assert "no forward derivative" in whys["forward gain"]
    assert "reentrant checkpointing" in whys["singular values of stages"]


def test_lazy_modules_become_real_for_the_audit_and_lazy_again() -> None:
    torch.manual_seed(24)
    model = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(4))
    found = measured(Case(model, (torch.randn(3, 5),), lambda _: []))
    assert found.trunk.found
    assert all(row.top_singular_values for row in found.rows)
    assert isinstance(model[0].weight, nn.UninitializedParameter)


def test_compiled_modules_are_measured_as_the_python_they_come_from() -> None:
    torch.manual_seed(25)
    plain = nn.Sequential(
        nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 2)
    )
    compiled = nn.Sequential(plain[0], torch.compile(plain[1], backend="eager"), plain[2])  # type: ignore[arg-type]
    x = torch.randn(3, 6)
    one, two = (measured(Case(net, (x,), lambda _: [])) for net in (plain, compiled))
    for mine, other in zip(one.rows, two.rows, strict=True):
        assert mine.backward_gain == other.backward_gain
        assert mine.forward_gain == other.forward_gain
        assert mine.top_singular_values == other.top_singular_values
