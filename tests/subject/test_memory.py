"""Too little memory: half the batch is tried, and half of that."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

import gradaudit
from gradaudit.errors import ModelError
from gradaudit.settings import Settings
from gradaudit.subject import Batch
from gradaudit.subject.memory import halved, in_memory, out_of_memory
from tests.command import FAST, checked, run


class Hungry(nn.Module):
    """Asks for more bytes than there are addresses for each sample beyond ``most``.

    After ``first`` calls: a count that borrowing does not put back.
    """

    def __init__(self, most: int, *, first: int = 0) -> None:
        super().__init__()
        self.layer, self.most, self.first = nn.Linear(4, 1), most, first
        self.calls = itertools.count()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if next(self.calls) >= self.first:
            torch.empty(max(0, len(x) - self.most) * 2**45, dtype=torch.uint8)
        return self.layer(x)


def sample(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))
    return x, x[:, :1]


QUICK = Settings(effort="quick", threads=1)


@pytest.mark.parametrize("first", [0, 6])
def test_the_batch_is_halved_until_it_fits_and_the_report_says_so(first: int) -> None:
    report = gradaudit.audit(Hungry(9, first=first), sample(64), loss="mse", settings=QUICK)
    told = [note for note in report.notes if note.startswith("OUT OF MEMORY")]
    assert told[0].startswith("OUT OF MEMORY: the batch of 64 was cut to 8; ")
    assert report.measurements.sample.batch_size == 8
    assert report.verdict != "inconclusive"


def test_a_sample_that_does_not_fit_alone_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"^out of memory on a batch of 1; give smaller"):
        gradaudit.audit(Hungry(0), sample(8), loss="mse", settings=QUICK)


def test_the_model_comes_back_as_it_was() -> None:
    model = Hungry(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradaudit.audit(model, sample(16), loss="mse", settings=QUICK)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_the_command_says_it_in_report_and_summary(tmp_path: Path) -> None:
    code = Path(__file__).read_text().partition("\n\nQUICK")[0]
    (tmp_path / "net.py").write_text(
        code + "\n\ndef subject():\n"
        "    return gradaudit.Subject(Hungry(5), sample=sample(32), loss='mse')\n"
    )
    ran = run("net.py:subject", *FAST, "--no-html", "--json", "out.json", cwd=tmp_path)
    assert ran.code in (0, 1), ran.err
    assert "OUT OF MEMORY: the batch of 32 was cut to 4" in " ".join(ran.err.split())
    report = checked((tmp_path / "out.json").read_text())
    assert report["measurements"]["sample"]["batch_size"] == 4


def test_halves_keep_every_second_sample_of_inputs_and_target() -> None:
    x = torch.arange(8)
    batch = Batch({"a": x, "b": (x * 10, 3)}, x + 100)
    cut = halved((batch,))
    assert cut is not None
    assert cut[0].inputs["a"].tolist() == [0, 2, 4, 6]
    assert cut[0].inputs["b"][0].tolist() == [0, 20, 40, 60]
    assert cut[0].target.tolist() == [100, 102, 104, 106]


@pytest.mark.parametrize(
    "batch",
    [
        Batch((torch.zeros(1, 3),)),
        Batch((torch.zeros(4, 3),), whole=True),
        Batch((torch.zeros(4, 3), torch.zeros(5, 3))),
    ],
    ids=["one sample", "fixed size", "axes differ"],
)
def test_what_cannot_be_halved(batch: Batch) -> None:
    assert halved((batch,)) is None


def test_other_errors_pass() -> None:
    def fail(_: object) -> None:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        in_memory(fail, (Batch((torch.zeros(4),)),))


def test_what_counts_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**47, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    wrapped = ModelError("the model's forward raised")
    wrapped.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    assert out_of_memory(wrapped)
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
