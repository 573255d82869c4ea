"""Losses: how auto chooses, how output and target are lined up, and what is known of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradaudit.errors import BadData, GradauditError, ModelError, UsageError
from gradaudit.settings import Settings
from gradaudit.subject import Batch, from_python, main_tensor
from gradaudit.subject.auto_loss import auto_objective
from gradaudit.subject.code import UserCode
from gradaudit.subject.losses import LOSSES
from gradaudit.subject.objective import given_objective, named_objective

O5 = torch.randn(6, 5)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def _auto(output: object, target: object = None) -> tuple[str, float]:
    batch = Batch((torch.ones(1),), target)
    objective = auto_objective(output, batch)
    assert objective.why.endswith(".")
    return objective.kind, float(objective(output, batch))


class TestAuto:
    def test_classes(self) -> None:
        assert _auto(O5, LABELS) == (
            "cross_entropy",
            pytest.approx(float(F.cross_entropy(O5, LABELS))),
        )
        assert _auto(O5, LABELS.int()[:, None])[1] == pytest.approx(
            float(F.cross_entropy(O5, LABELS))
        )

    def test_sequences_and_images(self) -> None:
        out, y = torch.randn(2, 7, 5), torch.randint(0, 5, (2, 7))
        expected = float(F.cross_entropy(out.transpose(1, 2), y))
        assert _auto(out, y) == ("cross_entropy", pytest.approx(expected))
        assert _auto(out.transpose(1, 2), y) == ("cross_entropy", pytest.approx(expected))
        assert _auto(out, y.flatten()) == ("cross_entropy", pytest.approx(expected))
        out, y = torch.randn(2, 5, 4, 3), torch.randint(0, 5, (2, 4, 3))
        assert _auto(out, y) == ("cross_entropy", pytest.approx(float(F.cross_entropy(out, y))))
        # T = C: a linear head's (B, T, C); H = W = C: a convolution's (B, C, H, W)
        out, y = torch.randn(2, 5, 5), torch.randint(0, 5, (2, 5))
        assert _auto(out, y)[1] == pytest.approx(float(F.cross_entropy(out.transpose(1, 2), y)))
        out, y = torch.randn(2, 5, 5, 5), torch.randint(0, 5, (2, 5, 5))
        assert _auto(out, y)[1] == pytest.approx(float(F.cross_entropy(out, y)))

    def test_ignored_labels(self) -> None:
        y = LABELS.clone()
        y[0] = -100
        assert _auto(O5, y)[1] == pytest.approx(float(F.cross_entropy(O5, y)))

    def test_log_probabilities_and_probabilities(self) -> None:
        expected = pytest.approx(float(F.cross_entropy(O5, LABELS)), rel=1e-4)
        assert _auto(O5.log_softmax(-1), LABELS) == ("nll", expected)
        assert _auto(O5.softmax(-1), LABELS) == ("nll_of_probabilities", expected)

    def test_regression_is_aligned_never_broadcast(self) -> None:
        out, y = torch.randn(6, 1), torch.randn(6)
        assert _auto(out, y) == ("mse", pytest.approx(float((out[:, 0] - y).square().mean())))
        assert _auto(out[:, 0], y[:, None])[1] == pytest.approx(
            float((out[:, 0] - y).square().mean())
        )
        assert _auto(torch.randn(6), torch.tensor([3, 5, 2, 8, 1, 9]))[0] == "mse"

    def test_binary(self) -> None:
        y = torch.tensor([0.0, 1, 1, 0])
        assert _auto(torch.randn(4, 1) * 9, y)[0] == "bce_with_logits"
        assert _auto(torch.rand(4, 1), y)[0] == "bce"
        assert _auto(torch.randn(4, 1) * 9, y.long())[0] == "bce_with_logits"
        assert _auto(torch.randn(4, 2) * 9, torch.stack([y, y], 1))[0] == "bce_with_logits"

    def test_own_loss(self) -> None:
        @dataclass
        class Output:
            loss: torch.Tensor
            logits: torch.Tensor

        assert _auto({"loss": torch.tensor(2.5), "logits": O5}) == ("model's own loss", 2.5)
        assert _auto(Output(torch.tensor([2.5]), O5)) == ("model's own loss", 2.5)
        assert _auto(torch.tensor(2.5)) == ("scalar output", 2.5)

    def test_tuples_and_records(self) -> None:
        y = torch.randn(6, 5)
        for output in (
            (O5, torch.ones(2)),
            [O5, None],
            {"logits": O5},
            {"a": 1, "b": O5},
            {"out": O5},
        ):
            assert main_tensor(output) is O5
            assert _auto(output, y) == ("mse", pytest.approx(float(F.mse_loss(O5, y))))


class TestConstants:
    """The best constant against a brute-force search over constants."""

    @pytest.mark.parametrize("name", ["mse", "l1", "smooth_l1", "huber", "bce_with_logits"])
    def test_elementwise(self, name: str) -> None:
        torch.manual_seed(0)
        y = torch.randn(40, 2) * 3
        if name == "bce_with_logits":
            y = (y > 1).float()
        batches = tuple(Batch((), part) for part in y.split(8))
        grid = torch.linspace(-9, 9, 20001)
        best = 0.0
        for feature in y.T:
            values = LOSSES[name].function
            losses = [float(values(c.expand(40), feature)) for c in grid[::10]]
            best += min(losses) / 2
        found = named_objective(name, "").constant(batches)
        assert found == pytest.approx(best, rel=2e-3)
        assert found <= best + 1e-6

    def test_classes(self) -> None:
        y = torch.tensor([0, 0, 0, 1, 2, -100])
        p = torch.tensor([0.6, 0.2, 0.2]).double()
        expected = float(-(p * p.log()).sum())
        found = named_objective("cross_entropy", "")
        assert found.constant((Batch((), y[:3]), Batch((), y[3:]))) == pytest.approx(expected)
        labelled = Batch((), LABELS)
        assert found.chance(O5, labelled) == (pytest.approx(math.log(5)), 5)
        assert named_objective("bce", "").chance(O5, labelled) == (pytest.approx(math.log(2)), 2)
        assert named_objective("mse", "").chance(O5, labelled) is None

    @pytest.mark.parametrize(
        ("output", "target", "classes"),
        [
            ((6, 50, 4), (6, 4), 50),  # F.cross_entropy's own layout
            ((6, 4, 50), (6, 4), 50),
            ((6, 4, 50), (24,), 50),
            ((6, 4), (6, 1), 4),
            ((2, 3, 5, 5), (2, 5, 5), 3),
            ((2, 5, 5, 3), (2, 5, 5), 3),
            ((7,), (), 7),
        ],
    )
    def test_classes_are_counted_on_the_axis_the_loss_reads(
        self, output: tuple[int, ...], target: tuple[int, ...], classes: int
    ) -> None:
        scores, batch = torch.zeros(output), Batch((), torch.zeros(target, dtype=torch.long))
        objective = named_objective("cross_entropy", "")
        found = objective.chance(scores, batch)
        assert found == (pytest.approx(math.log(classes)), classes)
        # Equal scores are the uniform guess.
        assert float(objective(scores, batch)) == pytest.approx(found[0])

    @pytest.mark.parametrize("shape", [(6, 50, 4), (6, 50), (50,)])
    def test_torchs_own_loss_has_the_classes_on_its_own_axis(self, shape: tuple[int, ...]) -> None:
        """Also against probabilities, where the target's shape says nothing about the axis."""
        axis = min(1, len(shape) - 1)
        batch = Batch((), torch.full(shape, 1 / shape[axis]))
        objective = given_objective(nn.CrossEntropyLoss(), UserCode())
        assert objective is not None
        found = objective.chance(torch.zeros(shape), batch)
        assert found == (pytest.approx(math.log(50)), 50)
        assert float(objective(torch.zeros(shape), batch)) == pytest.approx(found[0])

    def test_unknown(self) -> None:
        assert named_objective("mse", "").constant((Batch((), None),)) is None
        assert named_objective("poisson_nll", "").constant((Batch((), torch.ones(3)),)) is None


class TestNamed:
    @pytest.mark.parametrize("name", LOSSES)
    def test_every_name_gives_a_scalar(self, name: str) -> None:
        output = O5.softmax(-1).log() if name in ("nll", "kl_div") else O5.softmax(-1)
        target = LABELS if LOSSES[name].classes else torch.rand(6, 5)
        value = named_objective(name, "")(output, Batch((), target))
        assert value.dim() == 0
        assert torch.isfinite(value)

    def test_class_probabilities(self) -> None:
        p = torch.randn(6, 5).softmax(-1)
        found = named_objective("cross_entropy", "")(O5, Batch((), p))
        assert found == pytest.approx(float(F.cross_entropy(O5, p)))

    def test_unknown_name(self) -> None:
        with pytest.raises(
            UsageError, match=r"there is no loss called 'cros_entropy'.*did you mean"
        ):
            named_objective("cros_entropy", "")
        assert named_objective("MAE", "").kind == "l1"


def _fails(loss: object, sample: object, kind: type[GradauditError], model: nn.Module) -> str:
    with pytest.raises(GradauditError) as caught:
        from_python(model, sample, loss, None, Settings())  # type: ignore[arg-type]
    assert type(caught.value) is kind, str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestMistakes:
    def test_shapes(self) -> None:
        x = torch.randn(6, 4)
        text = _fails("mse", (x, torch.randn(6, 3)), BadData, nn.Linear(4, 2))
        assert "expected a target of shape [6, 2]; found [6, 3]" in text
        text = _fails("mse", (x, torch.randn(5)), BadData, nn.Linear(4, 1))
        assert "expected a target of shape [6, 1]; found [5]" in text
        text = _fails("cross_entropy", (x, torch.zeros(5).long()), BadData, nn.Linear(4, 2))
        assert "class indices of shape [6]" in text

    def test_class_range(self) -> None:
        x = torch.randn(6, 4)
        text = _fails(None, (x, torch.arange(6)), BadData, nn.Linear(4, 5))
        assert text.startswith("the target holds class 5; expected 0 to 4")
        text = _fails(None, (x, torch.arange(6) - 1), BadData, nn.Linear(4, 5))
        assert "class -1" in text
        text = _fails("cross_entropy", (x, torch.randn(6)), BadData, nn.Linear(4, 5))
        assert "cross entropy needs class indices" in text

    def test_custom(self) -> None:
        x, y, model = torch.randn(6, 4), torch.randn(6, 2), nn.Linear(4, 2)

        def raises(output, target):
            raise KeyError("labels")

        assert "raised KeyError: 'labels' (test_objective.py:" in _fails(
            raises, (x, y), ModelError, model
        )
        text = _fails(lambda o, t: (o - t).abs(), (x, y), ModelError, model)
        assert "returned [6, 2]; expected a scalar tensor" in text
        assert "returned float" in _fails(lambda o, t: 1.0, (x, y), ModelError, model)
        assert "cannot be called" in _fails(3, (x, y), UsageError, model)
        assert "there is no loss" in _fails("msee", (x, y), UsageError, model)

    def test_no_tensor_in_the_output(self) -> None:
        class Strange(nn.Linear):
            def forward(self, x):
                return "done"

        text = _fails(None, (torch.ones(2, 4), torch.ones(2)), BadData, Strange(4, 2))
        assert "holds no tensor" in text


def test_custom_losses_from_code_and_modules(write, opened) -> None:
    write("net.py", "net = nn.Linear(4, 1)\n"
                    "def data():\n    return torch.ones(5, 4), torch.ones(5, 1)\n"
                    "def loss(output, target):\n    return (output - target).abs().sum()\n"
                    "def alone(output, target):\n    return output.square().mean()\n"
                    "def only_x():\n    return torch.ones(5, 4)\n")  # fmt: skip
    found = opened("net.py:net", data="net.py:data", loss="net.py:loss")
    assert found.objective.kind == "custom (net.py:loss)"
    assert found.objective.constant(found.batches) is None
    assert found.objective.chance(torch.ones(5, 1), found.batches[0]) is None
    found = opened("net.py:net", data="net.py:only_x", loss="net.py:alone")
    assert found.sample.target == "none"
    model = nn.Linear(4, 2)
    sample = (torch.randn(6, 4), torch.randint(0, 2, (6,)))
    found = from_python(model, sample, nn.CrossEntropyLoss(), None, Settings())
    assert found.objective.kind == "cross_entropy"
    assert found.objective.constant(found.batches) is not None
    weighted = nn.CrossEntropyLoss(label_smoothing=0.1)
    found = from_python(model, sample, weighted, None, Settings())
    assert found.objective.constant(found.batches) is None
    found = from_python(model, sample, nn.CrossEntropyLoss, None, Settings())  # a class, not called
    assert found.objective.kind == "cross_entropy"


def test_reconstruction_target() -> None:
    x = torch.randn(6, 4)
    found = from_python(nn.Linear(4, 4), x, None, None, Settings())
    assert torch.equal(found.batches[0].target, x)
    assert "the target is the input" in found.notes[0]


def test_a_target_that_torch_would_broadcast_is_told() -> None:
    x, net = torch.randn(16, 4), nn.Linear(4, 1)
    told = from_python(net, (x, x[:, 0]), "mse", None, Settings()).notes
    assert any("TARGET RESHAPED" in note and "[16, 1]" in note for note in told)
    fitting = from_python(net, (x, x[:, :1]), "mse", None, Settings()).notes
    assert not any("RESHAPED" in note for note in fitting)
