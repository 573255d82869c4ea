import copy
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradaudit.probes import curvature as probe
from gradaudit.probes.curvature import measure_curvature
from gradaudit.probes.expense import is_cheap
from gradaudit.probes.hessian import DIFFERENCES, DOUBLE, Hessian, second_order_kernels
from gradaudit.records import Curvature, NotMeasured, Recipe
from gradaudit.settings import Settings
from gradaudit.subject import Batch, Opened, borrowed
from gradaudit.subject.losses import LOSSES
from gradaudit.subject.objective import NamedObjective
from tests.reference import dense_hessian
from tests.subjects import opened

CROSS_ENTROPY = NamedObjective(LOSSES["cross_entropy"], "")
MSE = NamedObjective(LOSSES["mse"], "")
SGD = Recipe(optimizer="sgd", lr=0.1)
ADAM = Recipe(optimizer="adam", lr=1e-3)
ROWS, CLASSES = 12, 3


class Call(nn.Module):
    """Parts and a function of them."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.call = forward

    def forward(self, *inputs: Any) -> Tensor:
        return self.call(self, *inputs)


class Cube(torch.autograd.Function):
    """Has no second derivative, and says so."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x + x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (1 + 3 * x * x)


class HiddenCube(Cube):
    """Has no second derivative, and hides it: the backward pass looks linear to autograd."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (1 + 3 * x.detach() * x.detach())


class Rounded(torch.autograd.Function):
    """A straight-through estimator with a slope of its own: no loss has this gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def mlp(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), *(middle or (nn.Tanh(),)), nn.Linear(6, CLASSES))


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, CLASSES))
    model[2].weight = model[0].weight
    return model


def frozen() -> nn.Module:
    model = mlp()
    model[0].weight.requires_grad_(False)
    return model


def recurrent(kind: type[nn.RNNBase], **options: Any) -> nn.Module:
    size = 2 if options.get("bidirectional") else 4
    width = options.get("proj_size") or size * (1 + options.get("bidirectional", False))
    layer = kind(3, size, batch_first=True, **options)
    return Call(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=layer, head=nn.Linear(width, CLASSES))


def attention(dropout: float = 0.0) -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=dropout, batch_first=True)
    return Call(lambda m, x: m.head(m.layer(x).mean(1)), layer=layer, head=nn.Linear(4, CLASSES))


def checkpointed(reentrant: bool) -> nn.Module:
    inside = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
    return Call(
        lambda m, x: m.head(checkpoint(m.inside, x.requires_grad_(), use_reentrant=reentrant)),
        inside=inside,
        head=nn.Linear(6, CLASSES),
    )


def embedding(sparse: bool = False) -> nn.Module:
    return Call(
        lambda m, x: m.head(torch.tanh(m.table(x).mean(1))),
        table=nn.Embedding(7, 4, sparse=sparse),
        head=nn.Linear(4, CLASSES),
    )


def bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(7, 4), nn.Tanh(), nn.Linear(4, CLASSES))


def conv(*, norm: bool = False) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3) if norm else nn.Identity(),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, CLASSES),
    )


def custom(function: type[torch.autograd.Function]) -> nn.Module:
    return Call(
        lambda m, x: m.head(function.apply(m.inside(x))),
        inside=nn.Linear(4, 6),
        head=nn.Linear(6, CLASSES),
    )


def flat() -> Tensor:
    return torch.randn(ROWS, 4)


def series() -> Tensor:
    return torch.randn(ROWS, 5, 3)


def words() -> Tensor:
    return torch.randint(7, (ROWS, 5))


def image() -> Tensor:
    return torch.randn(ROWS, 1, 4, 4)


# what it is made of: a model, its input, and how far the value may be off
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], float]] = {
    "tanh": (mlp, flat, 1e-4),
    "in-place relu": (lambda: mlp(nn.ReLU(inplace=True)), flat, 1e-4),
    "gelu and layer norm": (lambda: mlp(nn.LayerNorm(6), nn.GELU()), flat, 1e-4),
    "batch norm": (lambda: mlp(nn.BatchNorm1d(6), nn.Tanh()), flat, 1e-4),
    "dropout": (lambda: mlp(nn.Tanh(), nn.Dropout(0.3)), flat, 1e-4),
    "tied": (tied, flat, 1e-4),
    "frozen": (frozen, flat, 1e-4),
    "convolution and max-pool": (conv, image, 1e-4),
    "convolution and batch norm": (lambda: conv(norm=True), image, 1e-4),
    "embedding": (embedding, words, 1e-4),
    "sparse embedding": (lambda: embedding(sparse=True), words, 1e-4),
    "embedding bag": (bag, words, 5e-3),
    "RNN": (lambda: recurrent(nn.RNN), series, 1e-4),
    "LSTM": (lambda: recurrent(nn.LSTM), series, 1e-4),
    "two-layer LSTM, both ways": (
        lambda: recurrent(nn.LSTM, num_layers=2, bidirectional=True), series, 1e-4,
    ),
    "projected LSTM": (lambda: recurrent(nn.LSTM, proj_size=2), series, 1e-4),
    "GRU": (lambda: recurrent(nn.GRU), series, 1e-4),
    "attention": (attention, lambda: torch.randn(ROWS, 5, 4), 1e-4),
    "attention with dropout": (lambda: attention(0.2), lambda: torch.randn(ROWS, 5, 4), 1e-4),
    "checkpoint": (lambda: checkpointed(False), flat, 1e-4),
    "re-entrant checkpoint": (lambda: checkpointed(True), flat, 5e-3),
    "no second derivative": (lambda: custom(Cube), flat, 5e-3),
    "hidden second derivative": (lambda: custom(HiddenCube), flat, 5e-3),
    "weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, CLASSES)
        ), flat, 1e-4,
    ),
    "spectral norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), nn.Linear(6, CLASSES)
        ), flat, 1e-2,  # autograd holds the power iteration's vectors still
    ),
}  # fmt: skip


def subject(model: nn.Module, x: Tensor, recipe: Recipe = SGD, batches: int = 1) -> Opened:
    found = opened(
        model, x, objective=CROSS_ENTROPY, target=torch.arange(len(x)) % CLASSES, recipe=recipe
    )
    more = tuple(
        Batch((x.roll(i + 1, -1),), torch.arange(len(x)) % CLASSES) for i in range(batches - 1)
    )
    return replace(found, batches=found.batches + more)


def make(name: str) -> tuple[nn.Module, Tensor, float]:
    torch.manual_seed(3)
    build, draw, tolerance = CASES[name]
    return build(), draw(), tolerance


def gradient_in_double(seen: Opened) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """The gradient of the subject's loss as a float64 function of its trainable parameters."""
    batch = seen.batches[0]
    assert isinstance(batch.inputs, tuple)
    model = copy.deepcopy(seen.model).double()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = False
    x = batch.inputs[0]
    x = x.double() if x.is_floating_point() else x
    parameters = [p for p in model.parameters() if p.requires_grad]
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()

    def gradient(at: np.ndarray) -> np.ndarray:
        model.load_state_dict(state)
        torch.nn.utils.vector_to_parameters(torch.from_numpy(at), parameters)
        model.zero_grad()
        torch.set_rng_state(random)
        F.cross_entropy(model(x.clone()), batch.target).backward()
        torch.set_rng_state(random)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        return torch.cat([part.flatten() for part in parts]).numpy()

    return gradient, torch.nn.utils.parameters_to_vector(parameters).detach().numpy()


def top(matrix: np.ndarray) -> float:
    return float(np.linalg.eigvalsh(matrix)[-1])


def measured(seen: Opened, **options: Any) -> tuple[Curvature, tuple[NotMeasured, ...]]:
    assert seen.model is not None
    with borrowed(seen.model, training=True):
        found, gaps = measure_curvature(seen, Settings(**options))
    assert found is not None, gaps
    return found, gaps


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", CASES)
def test_sharpness_is_the_top_of_a_dense_hessian(name: str) -> None:
    model, x, tolerance = make(name)
    seen = subject(model, x)
    eigenvalues = np.linalg.eigvalsh(dense_hessian(*gradient_in_double(seen)))
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    found, gaps = measured(seen)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert found.sharpness is not None
    assert found.lowest is not None
    assert found.sharpness.value == pytest.approx(eigenvalues[-1], rel=tolerance)
    assert found.sharpness.low is not None
    assert found.sharpness.high is not None
    slack = 0.0 if tolerance < 1e-3 else tolerance * abs(eigenvalues[-1])
    assert found.sharpness.low - slack <= eigenvalues[-1] <= found.sharpness.high + slack
    assert found.sharpness.high <= 1.01 * found.sharpness.value + slack
    assert found.lowest.high is not None  # the low end is likely, not certain
    assert eigenvalues[0] <= found.lowest.high + slack
    assert gaps == ()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("tanh", DOUBLE),
        ("checkpoint", DOUBLE),
        ("sparse embedding", DOUBLE),
        ("no second derivative", DIFFERENCES),
        ("hidden second derivative", DIFFERENCES),
        ("re-entrant checkpoint", DIFFERENCES),
    ],
)
def test_differences_stand_in_only_where_they_must(name: str, how: str) -> None:
    model, x, _ = make(name)
    seen = subject(model, x)
    assert seen.objective is not None
    with borrowed(model, training=True), second_order_kernels(model):
        hessian = Hessian(model, seen.objective, seen.batches[0], list(model.parameters()))
        hessian.product(torch.ones(hessian.size))
    assert hessian.how == how
    assert hessian.products == 1


@pytest.mark.parametrize("name", ["tanh", "dropout", "batch norm"])
def test_differences_and_double_backward_agree(name: str) -> None:
    model, x, _ = make(name)
    seen = subject(model, x)
    assert seen.objective is not None
    with borrowed(model, training=True), second_order_kernels(model):
        hessian = Hessian(model, seen.objective, seen.batches[0], list(model.parameters()))
        v = torch.randn(hessian.size)
        double = hessian.product(v)
        hessian.use_differences()
        assert float((hessian.product(v) - double).norm()) < 3e-3 * float(double.norm())


# --- preconditioned


def preconditioned(seen: Opened, eps: float = 1e-8, penalty: float = 0.0) -> float:
    """Top eigenvalue of ``P^-1/2 (H + penalty) P^-1/2`` in float64, from gradients alone."""
    moment: Any = 0.0
    for batch in seen.batches:
        gradient, at = gradient_in_double(replace(seen, batches=(batch,)))
        moment = moment + (gradient(at) + penalty * at) ** 2 / len(seen.batches)
    scale = 1 / np.sqrt(np.sqrt(moment) + eps)
    gradient, at = gradient_in_double(seen)
    hessian = dense_hessian(gradient, at) + penalty * np.eye(len(at))
    return top(scale[:, None] * hessian * scale)


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize(
    ("recipe", "penalty"),
    [
        (ADAM, 0.0),
        (Recipe(optimizer="adamw", lr=1e-3, weight_decay=0.1), 0.0),
        (Recipe(optimizer="adam", lr=1e-3, weight_decay=0.1), 0.1),
        (Recipe(optimizer="rmsprop", lr=1e-3, momentum=0.9), 0.0),
    ],
)
def test_preconditioned_sharpness_is_the_top_of_a_dense_one(
    recipe: Recipe, penalty: float, batches: int
) -> None:
    model, x, _ = make("tanh")
    seen = subject(model, x, recipe, batches)
    found, gaps = measured(seen)
    expected = preconditioned(seen, penalty=penalty)
    assert found.preconditioned_sharpness is not None
    low, high = found.preconditioned_sharpness.low, found.preconditioned_sharpness.high
    assert found.preconditioned_sharpness.value == pytest.approx(expected, rel=1e-3)
    assert low is not None
    assert high is not None
    assert low * (1 - 1e-4) <= expected <= high * (1 + 1e-4)
    assert gaps == ()


def test_weights_without_a_gradient_do_not_stand_for_curvature() -> None:
    """Behind a last layer of zeros no weight has a gradient, but the Hessian couples them."""
    model, x, _ = make("tanh")
    nn.init.zeros_(model[2].weight)  # type: ignore[index, arg-type]
    found, gaps = measured(subject(model, x, ADAM))
    assert found.preconditioned_sharpness is not None
    assert found.preconditioned_sharpness.value < 1e3
    (gap,) = gaps
    assert (gap.what, gap.where) == ("preconditioned sharpness", "30 of 51 weights")
    assert "eps alone would set their scale" in gap.why
    assert preconditioned(subject(model, x, ADAM)) > 1e3  # what they would have added


def test_a_large_eps_is_damping_and_holds_for_all_weights() -> None:
    model, x, _ = make("tanh")
    nn.init.zeros_(model[2].weight)  # type: ignore[index, arg-type]
    seen = subject(model, x, replace(ADAM, eps=1e-2))
    found, gaps = measured(seen)
    assert gaps == ()
    assert found.preconditioned_sharpness is not None
    expected = preconditioned(seen, eps=1e-2)
    assert found.preconditioned_sharpness.value == pytest.approx(expected, rel=1e-3)


# --- ceilings


def test_the_ceiling_is_on_what_the_optimizer_feels() -> None:
    model, x, _ = make("tanh")
    plain, _ = measured(subject(model, x, SGD))
    assert plain.preconditioned_sharpness is None
    assert plain.ceiling is not None
    assert plain.sharpness is not None
    assert plain.rate_ceiling is not None
    assert (plain.rule, plain.optimizer, plain.ceiling.value) == ("2 / lr", "sgd", 20.0)
    assert plain.rate_ceiling.value == pytest.approx(2 / plain.sharpness.value)
    adaptive, _ = measured(subject(model, x, ADAM))
    assert adaptive.ceiling is not None
    assert adaptive.rate_ceiling is not None
    assert adaptive.preconditioned_sharpness is not None
    assert adaptive.ceiling.value == pytest.approx(38_000)
    assert adaptive.rate_ceiling.value == pytest.approx(
        38 / adaptive.preconditioned_sharpness.value
    )
    assert adaptive.ceiling.unit == adaptive.preconditioned_sharpness.unit


def test_the_users_own_optimizer_sets_rule_and_rate() -> None:
    model, x, _ = make("tanh")

    def nesterov(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.5, momentum=0.9, nesterov=True)

    seen = replace(subject(model, x, Recipe("sgd", 0.5)), make_optimizer=nesterov)
    found, _ = measured(seen)
    assert found.rule == "(2 + 2 momentum) / ((1 + 2 momentum) lr)"
    assert found.ceiling is not None
    assert found.ceiling.value == pytest.approx(3.8 / 2.8 / 0.5)


def test_only_what_the_optimizer_moves_is_measured() -> None:
    model, x, _ = make("tanh")

    def head_only(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(list(parameters)[2:], lr=0.5)

    found, _ = measured(replace(subject(model, x), make_optimizer=head_only))
    model[0].requires_grad_(False)  # type: ignore[index, operator]
    expected = top(dense_hessian(*gradient_in_double(subject(model, x))))
    assert found.sharpness is not None
    assert found.sharpness.value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("recipe", "gap"),
    [
        (Recipe(), "no learning rate was given"),
        (Recipe(optimizer="sgd"), "no learning rate was given"),
        (Recipe(optimizer="adagrad", lr=0.1), "no closed form is known here for Adagrad"),
    ],
)
def test_without_a_rate_or_a_known_rule_there_is_no_ceiling(recipe: Recipe, gap: str) -> None:
    model, x, _ = make("tanh")
    found, gaps = measured(subject(model, x, recipe))
    assert found.ceiling is None
    assert [(g.what, g.why) for g in gaps] == [("curvature ceiling", gap)]
    assert (found.rate_ceiling is None) == (recipe.optimizer == "adagrad")


@pytest.mark.parametrize("classes", [2, 5])
def test_a_softmax_layer_of_zeros_has_the_curvature_of_its_inputs(classes: int) -> None:
    torch.manual_seed(classes)
    x = torch.randn(40, 6) * torch.tensor([3.0, 1, 1, 1, 0.5, 0.1])
    model = nn.Linear(6, classes, bias=False)
    nn.init.zeros_(model.weight)
    seen = opened(model, x, objective=CROSS_ENTROPY, target=torch.arange(40) % classes, recipe=SGD)
    found, _ = measured(seen)
    assert found.sharpness is not None
    expected = top((x.T @ x / len(x)).double().numpy()) / classes
    assert found.sharpness.value == pytest.approx(expected, rel=1e-5)


# --- cost


def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no step be cheap, whatever its size."""
    monkeypatch.setattr("gradaudit.probes.expense.CHEAP_FLOPS", 0.0)


@pytest.mark.parametrize("recipe", [SGD, ADAM])
@pytest.mark.parametrize(
    ("effort", "products", "width"), [("standard", 8, 2.0), ("thorough", 20, 1.2)]
)
def test_dear_products_are_few_and_on_a_quarter_of_the_rows(
    effort: str, products: int, width: float, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    dear(monkeypatch)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, CLASSES))
    seen = subject(model, torch.randn(64, 30), recipe)
    found, _ = measured(seen, effort=effort)
    assert (found.samples, found.of_batch) == (16, 64)
    assert found.products <= products
    quarter = replace(
        seen, batches=(Batch((seen.batches[0].inputs[0][::4],), seen.batches[0].target[::4]),)
    )
    monkeypatch.undo()
    full, _ = measured(quarter)
    rough, fine = found.sharpness, full.sharpness
    assert rough is not None
    assert fine is not None
    assert rough.low is not None
    assert rough.high is not None
    assert rough.low <= fine.value <= rough.high
    if recipe is SGD:  # all products on the one matrix
        assert rough.high < width * rough.low


def test_an_interval_over_orders_of_magnitude_is_no_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dear(monkeypatch)
    monkeypatch.setattr("gradaudit.probes.curvature._WHOLE_SHARE", 8)  # one product
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, CLASSES))
    found, (gap,) = measure_curvature(subject(model, torch.randn(3, 30)), Settings())
    assert found is None
    assert gap.what == "sharpness"
    assert re.fullmatch(r"1 products leave it between \S+ and \S+", gap.why)


def test_quick_spends_nothing_unless_it_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, _ = make("tanh")
    found, _ = measured(subject(model, x), effort="quick")
    assert found.products > 0
    dear(monkeypatch)
    nothing, (gap,) = measure_curvature(subject(model, x), Settings(effort="quick"))
    assert nothing is None
    assert gap.why == "effort quick spends no Hessian-vector products"


def test_a_batch_that_cannot_be_divided_is_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    dear(monkeypatch)
    torch.manual_seed(0)
    rnn = nn.RNN(3, 4)  # time first: its rows are not the target's
    model = Call(lambda m, x: m.head(m.rnn(x)[0][-1]), rnn=rnn, head=nn.Linear(4, CLASSES))
    seen = opened(
        model, torch.randn(5, ROWS, 3), objective=CROSS_ENTROPY,
        target=torch.arange(ROWS) % CLASSES, recipe=SGD,
    )  # fmt: skip
    found, _ = measured(seen)
    assert found.products <= 3
    only_whole = Call(lambda m, x: m.head(x.view(ROWS, 4)), head=nn.Linear(4, CLASSES))
    found, _ = measured(subject(only_whole, flat()))
    assert (found.samples, found.of_batch) == (ROWS, ROWS)
    assert found.products <= 3


@pytest.mark.parametrize(
    ("kind", "weights"), [(nn.LSTM, 2 * 4 * 30 * 50), (nn.GRU, 2 * 3 * 30 * 50)]
)
def test_fused_recurrent_layers_count(
    kind: type[nn.RNNBase], weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rnn = kind(20, 30, bidirectional=True)
    model = Call(lambda m, x: m.rnn(x)[0].mean((0, 2)), rnn=rnn)
    steps, batch = 7, 5
    seen = opened(model, torch.randn(steps, batch, 20), objective=MSE, target=torch.zeros(batch))
    flops = 2 * weights * steps * batch
    monkeypatch.setattr("gradaudit.probes.expense.CHEAP_FLOPS", 3 * flops)
    assert is_cheap(seen)
    monkeypatch.setattr("gradaudit.probes.expense.CHEAP_FLOPS", 3 * flops - 1)
    assert not is_cheap(seen)


# --- what cannot be measured


def nothing(seen: Opened, **options: Any) -> str:
    """Why there is no curvature."""
    found, (gap,) = measure_curvature(seen, Settings(**options))
    assert found is None
    assert gap.what == "sharpness"
    return gap.why


def test_what_is_missing_is_said() -> None:
    model, x, _ = make("tanh")
    seen = subject(model, x)
    assert "only weights" in nothing(replace(seen, model=None))
    assert "no data" in nothing(replace(seen, batches=()))
    assert "bfloat16" in nothing(subject(copy.deepcopy(model).bfloat16(), x.bfloat16()))
    model.requires_grad_(False)
    assert "no parameter is trainable" in nothing(seen)


def test_infinities_give_no_curvature() -> None:
    model, x, _ = make("tanh")
    with torch.no_grad():
        model[2].weight[0, 0] = math.inf  # type: ignore[index]
    assert nothing(subject(model, x)) == "the loss or its gradient is not finite"
    assert math.isinf(model[2].weight[0, 0].item())  # type: ignore[index]


def test_a_gradient_that_no_loss_has_is_told() -> None:
    model, x, _ = make("no second derivative")
    seen = subject(model, x)
    straight = subject(custom(Rounded), x)
    assert "not symmetric" in nothing(straight)
    assert measured(seen)[0].sharpness is not None


def test_a_loss_without_curvature_is_exactly_flat() -> None:
    linear = Call(lambda m, x: m.part(x).mean(), part=nn.Linear(4, 1))
    seen = replace(opened(linear, flat(), objective=probe_value(), recipe=SGD))
    found, (gap,) = measured(seen)
    assert found.sharpness is not None
    assert (found.sharpness.low, found.sharpness.high) == (0.0, 0.0)
    assert found.rate_ceiling is None
    assert (gap.what, gap.where) == ("rate ceiling", "the model")


def probe_value() -> Any:
    from gradaudit.subject.objective import OwnObjective

    return OwnObjective("", "scalar output")


def test_a_loss_that_does_not_depend_on_some_weights() -> None:
    model = Call(lambda m, x: m.used(x), used=nn.Linear(4, CLASSES), unused=nn.Linear(4, 4))
    torch.manual_seed(1)
    x = flat()
    with_unused, gaps = measured(subject(model, x, ADAM))
    assert gaps[0].where == "20 of 35 weights"
    without, _ = measured(subject(model.used, x, ADAM))
    for a, b in (
        (with_unused.sharpness, without.sharpness),
        (with_unused.preconditioned_sharpness, without.preconditioned_sharpness),
    ):
        assert a is not None
        assert b is not None
        assert a.value == pytest.approx(b.value, rel=1e-3)


def test_one_row_one_weight_and_zero_weights() -> None:
    one = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(one.weight)
    seen = opened(one, torch.tensor([[3.0]]), objective=MSE, target=torch.ones(1, 1), recipe=SGD)
    found, _ = measured(seen)
    assert found.sharpness is not None
    assert found.sharpness.value == pytest.approx(18.0)  # (3 w - 1)^2
    assert found.products == 1


# --- manners


def test_the_same_seed_gives_the_same_numbers_and_leaves_no_trace() -> None:
    model, x, _ = make("attention with dropout")
    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    grads = [p.grad for p in model.parameters()]
    seen = subject(model, x, ADAM, 2)
    enabled = torch._C._get_mkldnn_enabled()
    first, _ = measured(seen)
    again, _ = measured(seen)
    assert first == again
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    assert all(bool((g == 2).all()) for g in grads if g is not None)
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert torch._C._get_mkldnn_enabled() == enabled
    assert first.products <= 2 * probe.PLENTY
