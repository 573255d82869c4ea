"""The half-precision forecast against real half-precision runs and exact rational rounding."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradaudit.errors import ModelError
from gradaudit.probes._half_gradients import Sizes
from gradaudit.probes._half_updates import first_updates
from gradaudit.probes.half_formats import BF16, FORMATS, FP16, loss_scale
from gradaudit.probes.precision import Result, measure_precision, weights_format
from gradaudit.records import Precision, Recipe
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Opened
from tests.probes.half_runs import (
    HALVES,
    Case,
    Then,
    behind_identity,
    gradient_cases,
    one_weight,
    overflow_cases,
    rms_norm,
    scaled_error,
)
from tests.probes.lossy import CROSS_ENTROPY, MSE, Loss, mlp, opened, regression
from tests.reference import share_lost, to_bf16, to_fp16

QUICK, STANDARD = (Settings(effort=e) for e in ("quick", "standard"))
ADAM = Recipe(optimizer="adam", lr=1e-3)
ROUND = {"fp16": to_fp16, "bf16": to_bf16}


def measured(subject: Opened, settings: Settings = STANDARD) -> Result:
    assert subject.model is not None
    with borrowed(subject.model, training=True):
        return measure_precision(subject, settings)


def found(subject: Opened, settings: Settings = STANDARD) -> Precision:
    precision, _ = measured(subject, settings)
    assert precision is not None
    return precision


# --- the formats


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_the_limits_of_a_format_are_those_of_torch_and_of_exact_rounding(
    form: Any, x: float
) -> None:
    exact = ROUND[form.name](x)
    assert float(torch.tensor(x).to(form.dtype)) == exact
    assert math.isinf(exact) == (abs(x) >= form.infinite_from)
    assert (exact == 0) == (abs(x) <= 2.0**form.zero_to)


@pytest.mark.parametrize(
    ("form", "x", "rounded"),
    [
        (FP16, 65504.0, 65504.0),
        (FP16, 65519.0, 65504.0),
        (FP16, 65520.0, math.inf),
        (FP16, 2.0**-25, 0.0),
        (FP16, math.nextafter(2.0**-25, 1), 2.0**-24),
        (BF16, 3.3895e38, 3.3895e38),
        (BF16, 3.3962e38, math.inf),
        (BF16, 2.0**-134, 0.0),
    ],
)
def test_the_published_ends_of_the_range(form: Any, x: float, rounded: float) -> None:
    assert ROUND[form.name](x) == pytest.approx(rounded, rel=1e-3)
    assert math.isinf(rounded) == (x >= form.infinite_from)
    assert (rounded == 0) == (x <= 2.0**form.zero_to)


@pytest.mark.parametrize(
    ("largest", "loss", "scale"),
    [
        (1.0, 0.0, 2048.0),  # 65504 / 16 = 4094
        (4094.0, 0.0, 1.0),
        (4095.0, 0.0, 0.5),
        (1e-8, 0.0, 2.0**38),
        (1e6, 0.0, 2.0**-8),
        (1e-40, 1.0, 2.0**127),  # the scaled loss stays in float32
        (1e-40, 1000.0, 2.0**117),
    ],
)
def test_the_loss_scale_puts_the_largest_gradient_below_the_end(
    largest: float, loss: float, scale: float
) -> None:
    assert loss_scale(largest, loss) == scale
    with pytest.raises(ValueError, match="positive, finite"):
        loss_scale(largest * math.inf)


# --- overflow


CASES = overflow_cases()


@pytest.mark.parametrize("form", HALVES)
@pytest.mark.parametrize("pure", [False, True], ids=["autocast", "pure"])
@pytest.mark.parametrize("name", CASES)
def test_overflow_is_forecast_where_the_real_run_is_not_finite(
    name: str, pure: bool, form: str
) -> None:
    case = CASES[name]
    if pure and name == "huge weights" and form == "fp16":
        pytest.skip("weights that are infinite already are no forecast")
    _, row = case.forecast(HALVES[form], pure=pure)
    real = case.run(HALVES[form], pure=pure)
    gradients = (row.largest_gradient or 0.0) >= next(
        each.infinite_from for each in FORMATS if each.name == form
    )
    assert (bool(row.overflow_spreads) or gradients) == (not real.finite), row
    assert (row.overflow_spreads is None) == (not row.overflows_in)
    # The float32 run is ahead of the real one by rounding alone.
    assert (form == "bf16") <= (not row.overflows_in)


def test_both_kinds_of_case_are_in_the_table() -> None:
    spreads = [
        case.forecast(torch.float16, pure=False)[1].overflow_spreads for case in CASES.values()
    ]
    assert {True, False, None} == set(spreads)
    assert spreads.count(True) >= 6


@pytest.mark.parametrize(
    ("value", "overflows"), [(65503.0, False), (65519.0, False), (65520.0, True), (66246.0, True)]
)
def test_what_autocast_feeds_to_a_layer_is_cast_too(value: float, overflows: bool) -> None:
    case = one_weight(value)
    _, row = case.forecast(torch.float16, pure=False)
    assert row.largest_activation == value
    assert row.overflows_in == (("the model",) if overflows else ())
    assert case.run(torch.float16, pure=False).finite == (not overflows)


def test_the_module_and_the_operation_are_named() -> None:
    case = Case(
        nn.Sequential(Then(lambda t: t), Then(lambda t: t * t), nn.LayerNorm(4)),
        torch.tensor([[300.0, 1.0, 2.0, 3.0]]),
        torch.zeros(1, 4),
    )
    _, row = case.forecast(torch.float16, pure=False)
    assert (row.largest_activation_at, row.largest_activation_op) == ("1", "mul")
    assert row.largest_activation == pytest.approx(9e4)
    assert row.overflows_in[0] == "1"
    seen: list[str] = []
    model = copy.deepcopy(case.model)
    for name, module in model.named_children():
        module.register_forward_hook(
            lambda m, i, out, name=name: None if out.isfinite().all() else seen.append(name)
        )
    with torch.autocast("cpu", torch.float16):
        model(case.x)
    assert seen[0] == row.overflows_in[0]


def test_an_overflow_that_changes_the_loss_spreads_though_all_stays_finite() -> None:
    case = behind_identity(rms_norm, 300.0)  # 1 / sqrt(inf) is zero
    _, row = case.forecast(torch.float16, pure=True)
    real = case.run(torch.float16, pure=True)
    assert row.overflow_spreads is True
    assert real.finite
    assert real.loss == 0.0
    assert case.run(torch.float32, pure=True).loss == pytest.approx(1.0)


def test_on_the_gpu_autocast_keeps_more_in_float32() -> None:
    case = behind_identity(rms_norm, 300.0)
    subject = opened(case.model, [(case.x, case.y)], Loss(case.loss))
    rows = [measure_precision(subject, STANDARD, policy=p)[0] for p in ("cuda", "cpu")]
    assert [bool(r.formats[0].overflows_in) for r in rows if r is not None] == [False, True]


# --- gradients


@pytest.mark.parametrize("factor", [1.0, 1e-2, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("name", gradient_cases())
def test_shares_that_round_to_zero_are_counted_exactly(name: str, factor: float) -> None:
    case = gradient_cases()[name]
    case.loss = scaled_error(factor)
    precision, row = case.forecast(torch.float16, pure=False)
    plain = case.run(torch.float32, pure=True)
    entries = np.concatenate([g.numpy().ravel() for g in plain.gradients()])
    assert row.largest_gradient == pytest.approx(float(np.abs(entries).max()))
    assert precision.loss_scale == 2.0 ** math.floor(
        math.log2(65504 / (16 * float(np.abs(entries).max())))
    )
    for share, scale in ((row.underflow, 1.0), (row.underflow_scaled, precision.loss_scale)):
        assert share is not None
        assert share.value == pytest.approx(share_lost(entries, to_fp16, scale), abs=2e-5)
        assert share.low == share.value == share.high


@pytest.mark.parametrize("pure", [False, True], ids=["autocast", "pure"])
@pytest.mark.parametrize("factor", [1.0, 1e-2, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("name", gradient_cases())
def test_real_fp16_gradients_are_zero_where_it_was_forecast(
    name: str, factor: float, pure: bool
) -> None:
    case = gradient_cases()[name]
    case.loss = scaled_error(factor)
    precision, row = case.forecast(torch.float16, pure=pure)
    assert precision.loss_scale is not None
    plain = case.run(torch.float32, pure=True).gradients()
    for share, scale in ((row.underflow, 1.0), (row.underflow_scaled, precision.loss_scale)):
        real = case.run(torch.float16, pure=pure, scale=scale).gradients()
        lost = sum(int(((a != 0) & (b == 0)).sum()) for a, b in zip(plain, real, strict=True))
        assert share is not None
        # The rest is what rounding further back does: zeros make zeros, and what rounds up to the
        # least number passes that on. Up to 5.4% of the entries here, at 1e-4.
        assert share.value == pytest.approx(
            lost / sum(int((a != 0).sum()) for a in plain), abs=0.06
        )


def test_the_scale_keeps_a_real_scaler_from_skipping() -> None:
    case = gradient_cases()["shallow"]
    case.loss = scaled_error(1e-4)
    precision, _ = case.forecast(torch.float16, pure=False)
    assert precision.loss_scale is not None
    for scale, sound in ((precision.loss_scale, True), (precision.loss_scale * 64, False)):
        run = case.run(torch.float16, pure=False, scale=scale)
        assert run.finite == sound


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    st.integers(-100, 100),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_binades_count_what_a_loop_counts(
    values: list[float], power: int, dtype: torch.dtype
) -> None:
    sizes = Sizes()
    sizes.add(torch.tensor(values, dtype=dtype))
    assert sizes.nonzero == sum(x != 0 for x in values)
    assert sizes.up_to(power) == sum(0 < abs(x) <= 2.0**power for x in values)
    assert sizes.up_to(-134) == sum(0 < abs(x) <= 2.0**-134 for x in values)
    assert sizes.peak == max(abs(x) for x in values)


def test_of_modules_that_lose_as_much_the_first_in_the_forward_pass_is_named() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4, bias=False) for _ in range(30)]
    for layer in layers:
        nn.init.eye_(layer.weight)
    named = set()
    for _ in range(5):
        spacer = [torch.empty(7) for _ in range(50)]  # other addresses for the graph's nodes
        model = nn.Sequential(*copy.deepcopy(layers))
        tiny = Loss(lambda output, _: 1e-9 * output.sum())
        subject = opened(model, [(torch.ones(2, 4), None)], tiny)
        named.add(found(subject).formats[0].underflow_at)
        del spacer
    assert named == {"0"}


def test_every_layout_of_a_gradient_is_counted() -> None:
    plain, sizes = torch.randn(6, 4), Sizes()
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[0, 0, 2]]), torch.ones(3, 2), (4, 2), check_invariants=True
    )
    for tensor in (plain.t(), plain[::2, 1:3], torch.ones(1).expand(5), sparse, plain[:0]):
        sizes.add(tensor)
    assert sizes.nonzero == 24 + 6 + 5 + 4
    assert sizes.peak == max(2.0, float(plain.abs().max()))  # the sparse rows add up
    sizes.add(torch.tensor([1.0, math.nan]))
    assert not sizes.finite


def test_the_module_that_loses_most_is_named() -> None:
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 4))
    with torch.no_grad():
        model.get_parameter("2.weight").mul_(1e-7)
    precision = found(opened(model, [(torch.randn(16, 8), torch.randn(16, 4))]))
    assert precision.formats[0].underflow_at == "0"


# --- updates


def stepped(optimizer: str, lr: float, dtype: torch.dtype, clip: float | None) -> tuple[Any, Any]:
    """The same first step in float32 and with everything in ``dtype``."""
    torch.manual_seed(4)
    model, (x, y) = mlp(16, 64, 4), (torch.randn(32, 16), torch.randn(32, 4))
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    results = []
    for form in (torch.float32, dtype):
        copied = copy.deepcopy(model).to(form)
        options = {"eps": 1e-4} if optimizer != "sgd" else {}
        made = kind[optimizer](copied.parameters(), lr=lr, **options)
        F.mse_loss(copied(x.to(form)), y.to(form)).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(copied.parameters(), clip)
        before = [p.detach().clone() for p in copied.parameters()]
        made.step()
        results.append(list(zip(before, (p.detach() for p in copied.parameters()), strict=True)))
    eps = None if optimizer == "sgd" else 1e-4
    recipe = Recipe(optimizer=optimizer, lr=lr, eps=eps, clip_norm=clip)
    subject = opened(model, [(x, y)], recipe=recipe)
    return results, found(subject)


@pytest.mark.parametrize(
    ("optimizer", "lr", "clip", "form"),
    [
        ("sgd", 1.0, None, "bf16"),
        ("sgd", 0.1, None, "bf16"),
        ("sgd", 0.1, 0.01, "bf16"),
        ("sgd", 1e-3, None, "bf16"),
        ("sgd", 0.1, None, "fp16"),
        ("sgd", 1e-3, None, "fp16"),
        # in fp16 the optimizers below lose their second moments first
        ("adam", 1e-2, None, "bf16"),
        ("adam", 1e-3, None, "bf16"),
        ("adam", 1e-4, None, "bf16"),
        ("adam", 1e-5, None, "bf16"),
        ("rmsprop", 1e-5, None, "bf16"),
    ],
)
def test_updates_that_are_lost_are_those_a_real_step_loses(
    optimizer: str, lr: float, clip: float | None, form: str
) -> None:
    (plain, real), precision = stepped(optimizer, lr, HALVES[form], clip)
    share = next(row.lost_updates for row in precision.formats if row.format == form)
    moves = [new != old for old, new in plain]
    stays = [new == old for old, new in real]
    lost = sum(int((m & s).sum()) for m, s in zip(moves, stays, strict=True))
    assert share is not None
    assert share.value == pytest.approx(lost / sum(int(m.sum()) for m in moves), abs=0.02)
    ratios = [
        abs(step / weight) if weight else math.inf
        for old, new in plain
        for weight, step in zip(old.flatten().tolist(), (new - old).flatten().tolist(), strict=True)
        if step
    ]
    for bound, power in ((share.low, 2), (share.high, 1)):
        sure = sum(r < 2.0 ** -(BITS[form] + power - 1) for r in ratios) / len(ratios)
        assert bound == pytest.approx(sure, abs=1e-3)


BITS = {"fp16": 11, "bf16": 8}  # of significand


def test_a_sample_of_the_weights_covers_what_all_of_them_show() -> None:
    torch.manual_seed(5)
    model, batch = mlp(64, 100, 50), (torch.randn(8, 64), torch.randn(8, 50))
    subject = opened(model, [batch], recipe=Recipe(optimizer="adam", lr=1e-4))

    def lost(seed: int, look_at: int) -> Any:
        with borrowed(model):
            F.mse_loss(model(batch[0]), batch[1]).backward()
            return first_updates(model, subject, seed, look_at=look_at).lost["bf16"]

    exact = lost(0, 1 << 20)
    assert 0.2 < exact.value < 0.8
    samples = [lost(seed, 1000) for seed in range(200)]
    held = sum(s.low <= exact.low and exact.high <= s.high for s in samples)
    assert 0.92 <= held / 200 <= 0.995
    wider = [(s.high - s.low) - (exact.high - exact.low) for s in samples]
    theory = 1.96 * sum(math.sqrt(p * (1 - p) / 1000) for p in (exact.low, exact.high))
    assert sum(wider) / 200 == pytest.approx(theory, rel=0.05)


@pytest.mark.parametrize(("eps", "sound"), [(1e-8, False), (1e-4, True)])
def test_adam_in_pure_fp16_needs_an_eps_that_is_not_zero(eps: float, sound: bool) -> None:
    torch.manual_seed(6)
    model, (x, y) = mlp().half(), regression()[0]
    subject = opened(model, [(x.half(), y.half())], recipe=Recipe("adam", 1e-3, eps=eps))
    precision = found(subject)
    assert (precision.regime, precision.judged, precision.eps) == ("pure", "fp16", eps)
    assert [row.eps_flushed for row in precision.formats] == [not sound, False]
    F.mse_loss(model(x.half()), y.half()).backward()
    torch.optim.Adam(model.parameters(), lr=1e-3, eps=eps).step()
    assert all(bool(p.isfinite().all()) for p in model.parameters()) == sound


def test_the_smallest_eps_of_all_groups_is_the_one_that_underflows() -> None:
    model, (x, y) = mlp().half(), regression()[0]

    def adam(parameters: object) -> torch.optim.Optimizer:
        first, *rest = parameters  # type: ignore[misc]
        groups = [{"params": [first], "eps": 1e-4}, {"params": rest, "eps": 1e-9}]
        return torch.optim.Adam(groups, lr=1e-3)

    subject = replace(opened(model, [(x.half(), y.half())]), make_optimizer=adam)
    precision = found(subject)
    assert precision.eps == 1e-9
    assert [row.eps_flushed for row in precision.formats] == [True, False]


def test_an_optimizer_whose_eps_is_no_number_has_none() -> None:
    def adafactor(parameters: object) -> torch.optim.Optimizer:
        return torch.optim.Adafactor(parameters, lr=1e-3)  # type: ignore[arg-type]

    precision = found(replace(opened(mlp(), regression()), make_optimizer=adafactor))
    assert precision.eps is None
    assert [row.eps_flushed for row in precision.formats] == [None, None]


# --- what is measured when


def test_quick_measures_only_what_asks_for_half_precision() -> None:
    precision, gaps = measured(opened(mlp(), regression()), QUICK)
    assert precision is None
    assert gaps[0].why == "quick effort measures it only for a recipe in fp16 or bf16"
    for asked in ("fp16", "bf16"):
        subject = opened(mlp(), regression(), recipe=Recipe(precision=asked))
        assert found(subject, QUICK).judged == asked
    x, y = regression()[0]
    half = opened(mlp().bfloat16(), [(x.bfloat16(), y.bfloat16())])
    assert found(half, QUICK).judged == "bf16"


def test_without_a_recipe_nothing_is_judged_and_updates_are_not_measured() -> None:
    precision, gaps = measured(opened(mlp(), regression()))
    assert precision is not None
    assert precision.judged == ""
    assert [row.lost_updates for row in precision.formats] == [None, None]
    assert [gap.why for gap in gaps] == ["no optimizer and rate were given"]


def test_without_a_loss_only_activations_are_forecast() -> None:
    precision, gaps = measured(opened(mlp(), regression(), None))
    assert precision is not None
    row = precision.formats[0]
    assert row.largest_activation is not None
    assert (row.largest_gradient, row.underflow, precision.loss_scale) == (None, None, None)
    assert [gap.what for gap in gaps] == ["half-precision gradients"]


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (opened(None, []), "only weights were opened"),
        (opened(mlp(), []), "there is no data"),
        (opened(mlp(), [(torch.full((2, 6), math.inf), torch.zeros(2, 2))]), "not finite"),
        (opened(mlp(), [(torch.full((2, 6), math.nan), torch.zeros(2, 2))]), "not finite"),
    ],
)
def test_what_cannot_be_forecast_is_said(subject: Opened, why: str) -> None:
    precision, gaps = measure_precision(subject, STANDARD)
    assert precision is None
    assert why in gaps[0].why


class Constant(nn.Module):
    """Its output takes nothing from input or weights."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 2)


def zeroed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


@pytest.mark.parametrize(
    ("model", "scaled"),
    [
        (Constant(), False),
        (mlp().requires_grad_(False), False),
        (zeroed(nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 2, bias=False))), True),
        (nn.Flatten(), False),
        (mlp().double(), True),
    ],
)
def test_degenerate_models_give_numbers_or_reasons(model: nn.Module, scaled: bool) -> None:
    x, y = regression()[0]
    double = weights_format(model) is torch.float64
    batch = (x.double(), y.double()) if double else (x, y)
    if isinstance(model, nn.Flatten):
        batch = (x, x + 1)
    precision, gaps = measured(opened(model, [batch], recipe=ADAM))
    assert precision is not None
    row = precision.formats[0]
    assert (precision.loss_scale is not None) == (row.largest_gradient is not None) == scaled
    assert scaled or "half-precision gradients" in {gap.what for gap in gaps}


def test_an_optimizer_that_moves_nothing_or_too_much_is_said() -> None:
    subjects = [
        opened(
            mlp(), regression(), Loss(lambda out, _: (out * 0).sum()), recipe=Recipe("sgd", 1.0)
        ),
        opened(
            mlp(),
            regression(),
            Loss(lambda out, y: 1e4 * F.mse_loss(out, y)),
            recipe=Recipe("sgd", 3e38),
        ),
    ]
    whys = [gap.why for subject in subjects for gap in measured(subject)[1] if "update" in gap.what]
    assert whys == [
        "the recipe's first step changes no weight",
        "the recipe's first step is not finite",
    ]


# --- real models


class Net(nn.Module):
    """Embedding, recurrence, attention with dropout, a shared and a checkpointed layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16, sparse=True)
        self.rnn = nn.LSTM(16, 16, batch_first=True)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.shared, self.head = nn.Linear(16, 16), nn.Linear(16, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        x, _ = self.rnn(self.table(tokens))
        x = self.encoder(x)
        x = self.shared(self.shared(x).relu_())
        x = checkpoint(self.shared, x, use_reentrant=True)
        return self.head(x).flatten(0, 1)


def test_a_model_of_many_parts_comes_back_bit_for_bit_and_repeats() -> None:
    torch.manual_seed(7)
    model = Net()
    tokens = torch.randint(0, 20, (4, 6))
    recipe = Recipe(optimizer="sgd", lr=0.1, precision="fp16")
    subject = opened(model, [(tokens, tokens.flatten())], CROSS_ENTROPY, recipe=recipe)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    one, two = found(subject), found(subject)
    assert one == two
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    row = one.formats[0]
    assert row.lost_updates is not None
    assert 0 < (row.largest_activation or 0) < 100
    assert not row.overflows_in


def test_a_half_model_comes_back_in_half() -> None:
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).half()
    kept = [(id(p), p.data_ptr(), p.dtype) for p in (*model.parameters(), *model.buffers())]
    x, y = regression()[0]
    found(opened(model, [(x.half(), y.half())], recipe=ADAM))
    assert kept == [(id(p), p.data_ptr(), p.dtype) for p in (*model.parameters(), *model.buffers())]


def test_what_the_users_code_raises_is_one_line() -> None:
    broken = Loss(lambda output, target: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ModelError, match=r"the loss raised ZeroDivisionError"):
        measured(opened(mlp(), regression(), broken))
    assert MSE(torch.ones(1), opened(mlp(), [(torch.ones(1), torch.ones(1))]).batches[0]) == 0
