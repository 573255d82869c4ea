"""What torch's recurrent kernels do not check is checked before they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gradaudit.subject.formats.pt2.rebuilt import rebuilt
from gradaudit.subject.formats.recurrent_sizes import WrongSizes, check_recurrent
from tests.command import FAST, run

_LAYERS = (
    ("lstm", nn.LSTM(5, 6)),
    ("lstm", nn.LSTM(5, 6, 2, bias=False, bidirectional=True, batch_first=True)),
    ("lstm", nn.LSTM(5, 6, 2, proj_size=3, bidirectional=True)),
    ("gru", nn.GRU(5, 6, 2, bidirectional=True)),
    ("rnn_tanh", nn.RNN(5, 6, batch_first=True)),
)


def _call(name: str, layer: nn.RNNBase) -> tuple[list[Tensor], list[Tensor], tuple[object, ...]]:
    """States, weights and settings that fit sequences of 7 steps of 4 samples."""
    blocks = layer.num_layers * (2 if layer.bidirectional else 1)
    widths = [layer.proj_size or layer.hidden_size, layer.hidden_size][: 1 + (name == "lstm")]
    states = [torch.zeros(blocks, 4, width) for width in widths]
    weights = [weight.detach() for weight in layer.parameters()]
    setting = (layer.bias, layer.num_layers, 0.0, False, layer.bidirectional)
    return states, weights, setting


@pytest.mark.parametrize(("name", "layer"), _LAYERS)
def test_sizes_that_fit_pass_and_every_other_size_is_refused(name: str, layer: nn.RNNBase) -> None:
    states, weights, setting = _call(name, layer)
    x = torch.zeros(4, 7, 5) if layer.batch_first else torch.zeros(7, 4, 5)

    def check() -> None:
        hx = states if name == "lstm" else states[0]
        check_recurrent(name, (x, hx, weights, *setting, layer.batch_first), {})

    check()
    for held in (states, weights):
        for i, right in enumerate(held):
            for dim in range(right.dim()):
                held[i] = right.repeat_interleave(2, dim)
                with pytest.raises(WrongSizes):
                    check()
            held[i] = right
    check()


@pytest.mark.parametrize("sizes", [[4, 3, 1], [4, 4, 4], [1, 3, 4], [8], [4, 0, 4], []])
def test_packed_data_is_as_long_as_its_batch_sizes_say(sizes: list[int]) -> None:
    states, weights, setting = _call("lstm", nn.LSTM(5, 6))
    given = (torch.zeros(8, 5), torch.tensor(sizes, dtype=torch.int64), states, weights, *setting)
    if sizes == [4, 3, 1]:
        check_recurrent("lstm", given, {})
        return
    with pytest.raises(WrongSizes):
        check_recurrent("lstm", given, {})


class _Kernel(nn.Module):
    """Calls the kernel itself, so that no layer of torch's own looks at the sizes."""

    state: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.LSTM(5, 6)._flat_weights)
        self.register_buffer("state", torch.zeros(1, 4, 6))

    def forward(self, x: Tensor) -> Tensor:
        states = (self.state, self.state)
        setting = (True, 1, 0.0, False, False, False)
        y: Tensor = torch.lstm(x, states, list(self.weights), *setting)[0]
        return y


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_with_a_state_of_another_batch_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    torch.jit.trace(_Kernel(), torch.zeros(3, 4, 5), check_trace=False).save(str(file))

    done = run(str(file), "--input", "float32[3,64,5]", *FAST, "--no-html", cwd=tmp_path)

    assert done.code == 2
    assert "expected a state of sizes (1, 64, 6), found (1, 4, 6)" in " ".join(done.err.split())


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_an_exported_program_checks_them_too() -> None:
    x, program = torch.zeros(3, 4, 5), torch.export.export(_Kernel(), (torch.zeros(3, 4, 5),))
    model = rebuilt(torch.export.unflatten(program))
    assert model(x).shape == (3, 4, 6)

    model.state = torch.zeros(1, 2, 6)  # as a file may hold it that declares another size

    with pytest.raises(WrongSizes, match="expected a state"):
        model(x)
