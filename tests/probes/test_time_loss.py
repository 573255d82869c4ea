"""What the loss itself reads of the far end, against the gradient taken by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gradaudit.probes.time_loss import loss_reach
from gradaudit.subject.objective import named_objective
from tests.probes.test_through_time import opened


class Reader(nn.Module):
    """A bidirectional layer whose output is read at the last step, or at every step."""

    def __init__(self, reads: str, lengths: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, bidirectional=True)
        self.reads, self.lengths = reads, lengths

    def forward(self, x: Tensor) -> Tensor:
        if self.lengths:
            packed = pack_padded_sequence(x, self.lengths, enforce_sorted=False)
            output = pad_packed_sequence(self.rnn(packed)[0])[0]
        else:
            output = self.rnn(x)[0]
        return output[-1] if self.reads == "last" else output.mean(dim=0)


def reached(model: Reader, x: Tensor) -> dict[tuple[str, str], float]:
    subject = opened(model, x)
    batch = replace(subject.batches[0], target=torch.zeros(x.shape[1], 8))
    subject = replace(subject, batches=(batch,), objective=named_objective("mse", "test"))
    return loss_reach(subject, ["rnn"])


def by_hand(model: Reader, x: Tensor, rows: list[int]) -> list[float]:
    """Norm of the gradient at each step of the sequences in ``rows``."""
    x = x.clone().requires_grad_()
    model(x).square().mean().backward()
    assert x.grad is not None
    return x.grad[:, rows].flatten(1).norm(dim=1).tolist()


@pytest.mark.parametrize("reads", ["last", "all"])
@pytest.mark.parametrize("lengths", [(), (12, 30, 30, 4)])
def test_the_far_end_of_either_direction(reads: str, lengths: tuple[int, ...]) -> None:
    """Of packed sequences the longest count: shorter ones end where the others have just begun."""
    torch.manual_seed(0)
    model, x = Reader(reads, lengths), torch.randn(30, 4, 3)
    norms = by_hand(model, x, [1, 2] if lengths else [0, 1, 2, 3])
    found = reached(model, x)
    for direction, end in (("forward", 0), ("backward", -1)):
        expected = 2 * math.log10(norms[end] / max(norms))
        assert found["rnn", direction] == pytest.approx(expected, abs=1e-4)
    # only the last step's output is out of the first step's reach
    assert (found["rnn", "forward"] < -8) == (reads == "last")
    assert found["rnn", "backward"] > -2
