"""GA203 is answered by a gate that opens for the sequence's length, told in numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gradaudit.probes.through_time import measure_through_time
from gradaudit.records import Estimate, Measurements, Recipe, SampleRow, SubjectRow
from gradaudit.remedies.recurrent_initialization import prescribe
from gradaudit.rules import run_rules
from gradaudit.settings import Settings
from gradaudit.subject.borrow import borrowed
from gradaudit.subject.opened import Batch, Opened
from tests.remedies.pasted import paste
from tests.rules.literal import FLAT, measurements, recurrent


def seen(model: nn.Module, steps: int) -> Measurements:
    generator = torch.Generator().manual_seed(1)
    subject = Opened(
        model=model,
        weights={},
        batches=(Batch((torch.randn(4, steps, 3, generator=generator),)),),
        objective=None,
        recipe=Recipe(),
        make_optimizer=None,
        row=SubjectRow("test", "code", "", 0, 0, 0),
        sample=SampleRow("given", "none", 1, None, "test"),
    )
    with borrowed(model):
        rows, _ = measure_through_time(subject, Settings(effort="quick"))
    return measurements(recurrent=rows, rehearsal=FLAT)


class Delay(nn.Module):
    """Says at the last step what came at the first."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(3, 32, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0][:, -1]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_the_remedy_silences_what_it_answers(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    model = Delay(kind)
    before = seen(model, 200)
    findings = run_rules(before, Settings())
    found = {finding.code: finding.severity for finding in findings}
    assert found == {"GA202": "fail", "GA203": "warn"}
    (remedy,) = prescribe(findings, before, Settings())
    assert {"GA202", "GA203"} <= set(remedy.for_codes)
    assert remedy.parameters["steps"] == {"rnn": 200}
    assert "biases ln U[1, 199]: memories of 1 to 199 steps" in remedy.title
    paste(remedy.code, model=model)
    after = seen(model, 200)
    assert run_rules(after, Settings()) == ()
    assert after.recurrent[0].growth_log10.value > before.recurrent[0].growth_log10.value + 30


def test_selected_alone_it_is_answered_too_and_a_short_sequence_gets_a_bias_of_one() -> None:
    gate = Estimate.exact(0.1, "mean gate")
    row = replace(recurrent(-20.0), type="LSTM", steps=9, forget_gate=gate)
    rows = measurements(recurrent=(row,), rehearsal=FLAT)
    findings = run_rules(rows, Settings(select=("GA203",)))
    assert [finding.severity for finding in findings] == ["warn"]
    (remedy,) = prescribe(findings, rows, Settings())
    assert "(bias 1, for 9 steps)" in remedy.title
