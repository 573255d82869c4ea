"""Any object with a ``forward`` is a model."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import gradaudit
from gradaudit.settings import Settings
from gradaudit.subject.forwarding import Forwarding, has_forward
from gradaudit.subject.named import as_subject
from tests.command import audited


class Block:
    """A layer in plain Python."""

    def __init__(self, width: int) -> None:
        self.linear = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(x)) * self.gain


class Net:
    """A model in plain Python, with layers in lists and dicts."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.blocks = [Block(8), Block(8)]
        self.heads = {"mean": nn.Linear(8, 1)}
        self.me = self
        self.rate = 0.5
        self.label = "net"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block.forward(x)
        return self.heads["mean"](x)


NAMES = [
    "blocks.0.gain",
    "blocks.0.linear.bias",
    "blocks.0.linear.weight",
    "blocks.1.gain",
    "blocks.1.linear.bias",
    "blocks.1.linear.weight",
    "heads.mean.bias",
    "heads.mean.weight",
]


def test_parameters_are_those_it_refers_to_under_their_paths() -> None:
    net = Net()
    model = Forwarding(net)
    assert sorted(name for name, _ in model.named_parameters()) == NAMES
    assert dict(model.named_parameters())["blocks.1.gain"] is net.blocks[1].gain
    x = torch.randn(3, 8)
    assert torch.equal(model(x), net.forward(x))


def test_a_copy_trains_by_itself() -> None:
    net = Net()
    model = Forwarding(net)
    other = copy.deepcopy(model)
    x = torch.randn(3, 8)
    before = net.forward(x).detach().clone()
    other(x).sum().backward()
    assert all(p.grad is not None for p in other.parameters())
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert torch.equal(net.forward(x), before)
    assert other(x).abs().max() == 0


def test_an_audit_measures_it_and_leaves_it_alone() -> None:
    net = Net()
    before = [p.clone() for p in Forwarding(net).parameters()]
    x = torch.randn(32, 8)
    settings = Settings(effort="quick", threads=1)
    report = gradaudit.audit(net, (x, x[:, :1]), loss="mse", settings=settings)  # type: ignore[arg-type]
    assert {row.parameter for row in report.measurements.parameters} == set(NAMES)
    assert report.measurements.trunk is not None
    assert report.measurements.trunk.found
    assert report.measurements.rehearsal is not None
    after = list(Forwarding(net).parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_command_takes_an_object_or_what_returns_one(tmp_path: Path) -> None:
    code = Path(__file__).read_text()
    code = code[code.index("class Block") : code.index("NAMES = [")]
    (tmp_path / "net.py").write_text(f"import torch\nfrom torch import nn\n\n{code}\nnet = Net()\n")
    for name in ("net", "Net"):
        report = audited(f"net.py:{name}", "--input", "float32[8,8]", cwd=tmp_path, expect=0)
        assert report["subject"]["parameters"] == 2 * (72 + 8) + 9


def test_classes_and_functions_are_no_objects_with_forward() -> None:
    assert has_forward(Net())
    assert not has_forward(Net)
    assert not has_forward(as_subject)
    with pytest.raises(gradaudit.GradauditError, match="another object with forward"):
        as_subject(3, "net.py:three")


class Awkward(Net):
    """Names that Modules use themselves, names that fall together, and a long chain."""

    def __init__(self) -> None:
        super().__init__()
        self.type, self.half = nn.Linear(2, 2), nn.Parameter(torch.ones(2))
        self.parts = {"a.b": nn.Linear(2, 2), "a_b": nn.Linear(2, 2)}
        self.chain: list[object] = []
        for _ in range(2000):
            self.chain = [self.chain]


def test_no_parameter_is_lost_to_a_name_and_no_depth_ends_it() -> None:
    net = Awkward()
    names = {name for name, _ in Forwarding(net).named_parameters()}
    assert names - set(NAMES) == {
        "type_.weight", "type_.bias", "half_", "parts.a_b.weight", "parts.a_b.bias",
        "parts.a_b_.weight", "parts.a_b_.bias",
    }  # fmt: skip
