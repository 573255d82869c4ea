"""The producer of the first NaN or infinity is named, not those that passed it on."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradaudit.probes.gradients import measure_real_loss
from gradaudit.probes.nonfinite import find_producer, nonfinite_weights
from gradaudit.records import NonFinite
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch
from tests.probes.lossy import CROSS_ENTROPY, MSE, Loss, opened

SQUARE = Loss(lambda output, _: output.square().mean())


class Between(nn.Module):
    """A dense layer, a function in a module of its own, a dense layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inlet, self.middle, self.head = nn.Linear(4, 4), Middle(function), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.inlet(x)))


class Middle(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def found(model: nn.Module, batch: Batch, loss: Loss = SQUARE) -> NonFinite | None:
    with borrowed(model, training=True):
        return find_producer(model, loss, batch)


def named(model: nn.Module, batch: Batch, loss: Loss = SQUARE) -> tuple[str, str, str] | None:
    producer = found(model, batch, loss)
    return None if producer is None else (producer.phase, producer.op, producer.module)


def x() -> Batch:
    return Batch((torch.linspace(-2, 2, 12).view(3, 4),))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mixed, _ = self.attention(x, x, x, key_padding_mask=mask)
        return self.head(mixed)


def test_a_fully_masked_attention_row_is_the_softmaxs_fault() -> None:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[0] = True
    model = Attention()
    batch = Batch((torch.randn(2, 3, 4), mask))
    assert named(model, batch) == ("forward", "softmax", "attention")
    mask[0, 0] = False
    assert found(model, batch) is None


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask, float("-inf")).softmax(-1)


def test_minus_infinity_as_a_mask_is_no_fault() -> None:
    mask = torch.eye(4, dtype=torch.bool)[:3]
    assert found(Between(lambda s: masked_softmax(s, mask)), x()) is None
    constant = torch.zeros(3, 4).masked_fill(mask, float("-inf"))
    assert found(Between(lambda s: (s + constant).softmax(-1)), x()) is None
    assert found(Between(lambda s: (s + (~mask).float().log()).softmax(-1)), x()) is None


class Held(nn.Module):
    """A buffer that ``use`` joins to what passes."""

    def __init__(self, buffer: Tensor, use: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.register_buffer("held", buffer)
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(x, self.get_buffer("held"))


def added(x: Tensor, held: Tensor) -> Tensor:
    return x + held


def attended(x: Tensor, held: Tensor) -> Tensor:
    return (x + held).softmax(-1)


def test_a_buffer_that_is_not_finite_is_named_with_its_first_taker() -> None:
    for value in (torch.nan, torch.inf):
        model = nn.Sequential(nn.Linear(4, 4), Held(torch.full((4,), value), added))
        target = torch.tensor([0, 1, 2])
        producer = found(model, Batch(x().inputs, target), CROSS_ENTROPY)
        assert producer is not None
        assert (producer.phase, producer.op, producer.module) == ("constant", "add", "1")
        assert producer.parameter == "1.held"
        assert producer.file.endswith("test_nonfinite.py")
        assert producer.line == added.__code__.co_firstlineno + 1


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_constant_that_is_not_finite_is_named_where_it_is_made(value: float) -> None:
    model = nn.Sequential(nn.Linear(4, 4), Middle(lambda s: s + torch.tensor(value)))
    producer = found(model, Batch(x().inputs, torch.tensor([0, 1, 1])), CROSS_ENTROPY)
    assert producer is not None
    assert (producer.phase, producer.op, producer.module) == ("constant", "tensor", "1")
    assert producer.line is not None


def test_a_buffer_that_masks_is_no_fault_and_one_that_masks_all_is_the_softmaxs() -> None:
    mask = torch.tensor([0.0, -torch.inf, 0.0, 0.0])
    assert found(nn.Sequential(nn.Linear(4, 4), Held(mask, attended)), x()) is None
    everything = nn.Sequential(nn.Linear(4, 4), Held(torch.full((4,), -torch.inf), attended))
    assert named(everything, x()) == ("forward", "softmax", "1")


def test_what_was_in_the_batch_already_has_no_producer() -> None:
    assert found(nn.Linear(4, 2), Batch((torch.full((3, 4), torch.nan),))) is None


def test_masked_logits_at_the_output_are_no_fault_while_the_loss_is_finite() -> None:
    class Policy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits.masked_fill(torch.tensor([True, False, False]), float("-inf"))

    model, target = Policy(4, 3), torch.tensor([1, 2, 1])
    subject = opened(model, [(x().inputs[0], target)], CROSS_ENTROPY)  # type: ignore[index]
    with borrowed(model, training=True):
        result = measure_real_loss(subject, Settings(effort="quick"))
    assert result.nonfinite == ()
    gaps = {n.what for n in result.not_measured}
    assert {"effective rank and sample correlation", "output or gradient rms"} <= gaps
    assert "producer of the non-finite numbers" not in gaps


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda s: (s * 1e30).exp() / (s * 1e30).exp().sum(), "exp"),
        (lambda s: s.abs().neg().log(), "log"),
        (lambda s: F.relu(s) * F.relu(s).log(), "log"),
        (lambda s: (s * 1e30) * (s * 1e30), "mul"),
        (lambda s: (s - s) / (s - s), "div"),
        (lambda s: torch.acos(s.abs() + 2) * 0, "acos"),
        (lambda s: F.layer_norm(s.masked_fill(s > 0, torch.inf), (4,)), "native_layer_norm"),
    ],
)
def test_the_operation_that_made_it_is_named(function: Callable[[Tensor], Tensor], op: str) -> None:
    assert named(Between(function), x()) == ("forward", op, "middle")


def test_uninitialised_memory_is_not_a_producer() -> None:
    def refill(s: Tensor) -> Tensor:
        scratch = torch.empty_like(s)
        scratch.view(torch.int32).fill_(0x7FC00000)  # NaN, as memory may hold
        scratch.copy_(s)
        return scratch

    assert found(Between(refill), x()) is None


def test_the_call_of_a_shared_module_is_told() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.exp = nn.Linear(4, 4), Middle(lambda s: (s * 50).exp())

        def forward(self, x: Tensor) -> Tensor:
            return self.exp(self.layer(self.exp(x * 0.1)))

    torch.manual_seed(1)
    producer = found(Twice(), x())
    assert producer is not None
    assert (producer.op, producer.module, producer.call) == ("exp", "exp", 1)


@pytest.mark.parametrize(
    ("function", "op"),
    [
        # field case 10: the branch that was not taken, and the root at zero
        (lambda s: torch.where(s > 0, s.sqrt(), s), "sqrt"),
        (lambda s: (s - s).sqrt(), "sqrt"),
        (lambda s: s / (s - s).square().sum(-1, keepdim=True).sqrt().add(1), "sqrt"),
        (lambda s: torch.where(s > 100, s, (s - s).abs().pow(0.5)), "pow"),
        (lambda s: (s - s).norm(dim=-1, keepdim=True).pow(0.5) + s, "pow"),
    ],
)
def test_a_gradient_that_is_not_finite_is_traced_to_its_operation(
    function: Callable[[Tensor], Tensor], op: str
) -> None:
    model = Between(function)
    assert torch.isfinite(model(*x().inputs)).all()
    assert named(model, x()) == ("backward", op, "middle")


def test_a_gradient_that_is_masked_on_its_way_is_no_fault() -> None:
    # sqrt's gradient at zero is NaN, and the relu before it throws it away
    assert found(Between(lambda s: F.relu(s).sqrt().where(s > 0, torch.zeros(()))), x()) is None


def test_backward_overflow_is_named_where_it_happens() -> None:
    # The forward pass goes up and down again: only the gradient leaves float32's range.
    def steep(s: Tensor) -> Tensor:
        return ((s * 1e-30).mul(1e30).mul(1e-30)).mul(1e30).tanh()

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inlet, self.up = nn.Linear(4, 4), Middle(lambda s: s.mul(1e-25).mul(1e25))

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.inlet(x))

    loss = Loss(lambda output, _: output.square().mean() * 1e20)
    assert found(Between(steep), x()) is None
    assert named(Scaled(), x(), loss) == ("backward", "mul", "up")


def test_all_labels_ignored_is_the_losss_fault() -> None:
    batch = Batch((torch.randn(3, 4),), target=torch.full((3,), -100))
    assert named(nn.Linear(4, 2), batch, CROSS_ENTROPY) == ("loss", "nll_loss", "")


def test_a_loss_of_the_users_own() -> None:
    loss = Loss(lambda output, _: (output.square().sum() * -1).log())
    assert named(nn.Linear(4, 2), x(), loss) == ("loss", "log", "")


def test_a_number_that_came_with_the_data_has_no_producer() -> None:
    spoilt = torch.randn(3, 4)
    spoilt[0, 0] = torch.nan
    assert found(nn.Linear(4, 2), Batch((spoilt,))) is None


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_producer_inside_a_checkpoint(reentrant: bool) -> None:
    class Net(Between):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self.inlet(x)
            middle = checkpoint(self.middle, hidden, use_reentrant=reentrant)
            return self.head(middle)  # type: ignore[arg-type]

    assert named(Net(lambda s: (s * 1e30).exp()), x()) == ("forward", "exp", "middle")


def test_weights_are_named_by_parameter() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    assert nonfinite_weights(model) == ()
    with torch.no_grad():
        model[1].bias[0] = torch.inf
        model[0].weight.fill_(3e38)  # finite, though its sum is not
    expected = NonFinite("weights", "", "1", 0, parameter="1.bias")
    assert nonfinite_weights(model) == (expected,)


def test_the_step_is_passed_on_and_the_model_is_left_clean() -> None:
    model = Between(lambda s: s.abs().neg().log())
    with borrowed(model, training=True):
        producer = find_producer(model, MSE, Batch(x().inputs, torch.zeros(3, 2)), step=7)
        assert all(p.grad is None for p in model.parameters())
    assert producer is not None
    assert producer.step == 7
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# --- the line of the user's code

HERE = "tests/probes/test_nonfinite.py"


def line_of(text: str) -> int:
    """Number of the one line of this file that holds ``text`` behind a mark."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [i for i, line in enumerate(lines, 1) if line.rstrip().endswith(f"# {text}")]
    return number


class Fill(torch.autograd.Function):
    """Its backward pass divides by zero."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2  # in a function of one's own

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0] / 0.0


def untaken(s: Tensor) -> Tensor:
    safe = s + 0.0
    root = safe.sqrt()  # the untaken branch
    return torch.where(s > 0, root, s)


def masked(s: Tensor) -> Tensor:
    scores = s.masked_fill(torch.ones(3, 4, dtype=torch.bool), float("-inf"))
    weights = scores.softmax(-1)  # the masked row
    return weights + s


def ignored(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target)  # the ignored labels


@pytest.mark.parametrize(
    ("function", "phase", "op", "mark"),
    [
        (untaken, "backward", "sqrt", "the untaken branch"),
        (masked, "forward", "softmax", "the masked row"),
        (lambda s: (s - s).sqrt(), "backward", "sqrt", "the root at zero"),  # the root at zero
        (Fill.apply, "backward", "fill", "in a function of one's own"),
    ],
)
def test_the_line_that_called_the_operation_is_told(
    function: Callable[[Tensor], Tensor], phase: str, op: str, mark: str
) -> None:
    producer = found(Between(function), x())
    assert producer is not None
    assert (producer.phase, producer.op, producer.module) == (phase, op, "middle")
    assert (producer.file, producer.line) == (HERE, line_of(mark))
    # of the parameters its gradient spoilt the first
    assert producer.parameter == ("inlet.weight" if phase == "backward" else "")


def test_the_line_of_a_loss_of_ones_own_and_its_finite_gradient() -> None:
    # field case 11: the loss is NaN while every gradient is zero
    model, target = nn.Linear(4, 2), torch.full((3,), -100)
    batch = Batch((torch.randn(3, 4),), target=target)
    ignored(batch.run(model), target).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    model.zero_grad()
    producer = found(model, batch, Loss(ignored))
    assert producer is not None
    assert (producer.phase, producer.op) == ("loss", "nll_loss")
    assert (producer.file, producer.line) == (HERE, line_of("the ignored labels"))


def test_a_model_of_torchs_own_modules_has_no_line() -> None:
    # whoever calls us from outside is not to blame either
    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(dim=-1))
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    producer = found(model, x())
    assert producer is not None
    assert (producer.module, producer.file, producer.line) == ("0", "", None)


@pytest.mark.parametrize("reentrant", [True, False])
def test_the_line_inside_a_checkpoint(reentrant: bool) -> None:
    class Net(Between):
        def forward(self, x: Tensor) -> Tensor:
            middle = checkpoint(self.middle, self.inlet(x), use_reentrant=reentrant)
            return self.head(middle)  # type: ignore[arg-type]

    producer = found(Net(lambda s: (s * 1e30).exp()), x())  # in a checkpoint
    assert producer is not None
    assert (producer.file, producer.line) == (HERE, line_of("in a checkpoint"))
    producer = found(Net(untaken), x())
    assert producer is not None
    if reentrant:  # the graph inside is made and gone within one node
        assert (producer.op, producer.file, producer.line) == ("checkpoint_function", "", None)
    else:
        assert producer.line == line_of("the untaken branch")


def test_code_that_is_not_the_users_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "lib" / "site-packages"
    home.mkdir(parents=True)
    for folder, name in ((home, "installed"), (tmp_path, "own")):
        (folder / f"{name}.py").write_text("def call(function, s):\n    return function(s)\n")
        monkeypatch.syspath_prepend(str(folder))
    installed, own = importlib.import_module("installed"), importlib.import_module("own")

    def bad(s: Tensor) -> Tensor:
        return own.call(lambda s: installed.call(torch.exp, s * 1e30), s)  # type: ignore[no-any-return]

    exec(compile("def anonymous(s):\n    return s.exp()", "<string>", "exec"), vars(own))
    outer = found(Between(lambda s: own.call(own.anonymous, s * 1e30)), x())
    assert outer is not None
    # outside the working directory the path is whole
    assert (outer.file, outer.line) == ((tmp_path / "own.py").as_posix(), 2)
    monkeypatch.chdir(tmp_path)
    outer = found(Between(lambda s: own.call(own.anonymous, s * 1e30)), x())
    assert outer is not None
    assert outer.file == "own.py"
    inner = found(Between(bad), x())
    assert inner is not None
    assert inner.file.endswith("tests/probes/test_nonfinite.py")
