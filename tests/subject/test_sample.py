"""Data samples: every way to give one, and what is told about bad ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradaudit.errors import BadData, GradauditError, ModelError, UnreadableFile, UsageError
from gradaudit.settings import BUDGETS, Settings
from gradaudit.subject import Opened, from_python
from gradaudit.subject.batches import sample_count
from gradaudit.subject.made_up import parse_input_spec
from gradaudit.subject.opened import Batch

MODEL = "net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))\n"


class Two(nn.Module):
    """Takes two inputs, the second by keyword as well."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.a(left) + self.b(right)


def _net(out: int = 1) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, out))


def _open(model: nn.Module, sample: object, **options: object) -> Opened:
    return from_python(model, sample, None, None, Settings(**options))  # type: ignore[arg-type]


def _fails(
    model: nn.Module, sample: object, kind: type[GradauditError] = BadData, **o: object
) -> str:
    with pytest.raises(GradauditError) as caught:
        _open(model, sample, **o)
    assert type(caught.value) is kind, str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


X, Y = torch.randn(70, 4), torch.randn(70)


class TestForms:
    @pytest.mark.parametrize(
        ("sample", "batches", "target"),
        [
            (X, 1, "made up"),
            ((X, Y), 1, "given"),
            ([X, Y], 1, "given"),
            ([(X, Y), (X, Y)], 2, "given"),
            ([X, X, X], 3, "made up"),
            ((X.numpy(), Y.numpy()), 1, "given"),
            (X.double().numpy(), 1, "made up"),
            ({"x": X, "y": Y}, 1, "given"),
            ({"input": X}, 1, "made up"),
            (((X,), Y), 1, "given"),
            (({"input": X}, Y), 1, "given"),
            (lambda: (X, Y), 1, "given"),
            (lambda: [(X, Y)] * 3, 3, "given"),
            (DataLoader(TensorDataset(X, Y), 20), 4, "given"),
            (DataLoader(TensorDataset(X), 20), 4, "made up"),
            (TensorDataset(X, Y), 3, "given"),
        ],
    )
    def test_accepted(self, sample: object, batches: int, target: str) -> None:
        found = _open(_net(), sample)
        assert len(found.batches) == batches
        assert (found.sample.source, found.sample.target) == ("given", target)
        assert all(b.named_inputs()[0][1].dtype == torch.float32 for b in found.batches)
        assert found.objective(found.batches[0].run(found.model), found.batches[0]).dim() == 0

    def test_infinite_iterables_are_cut(self) -> None:
        wanted = BUDGETS["standard"].gradient_batches + BUDGETS["standard"].rehearsal_steps
        found = _open(_net(), ((X, Y) for _ in itertools.count()))
        assert len(found.batches) == wanted
        found = _open(_net(), ((X, Y) for _ in itertools.count()), effort="thorough")
        assert len(found.batches) == 64

    def test_two_inputs(self) -> None:
        left, right, y = torch.randn(6, 4), torch.randn(6, 2), torch.randn(6, 3)
        for sample in (
            ((left, right), y),
            ({"left": left, "right": right}, y),
            {"left": left, "right": right, "y": y},
            {"x": left, "right": right, "y": y},
            {"x": (left, right), "y": y},
        ):
            found = _open(Two(), sample)
            assert found.batches[0].run(found.model).shape == (6, 3)
        text = _fails(Two(), (left, right, y))
        assert text.endswith("group several inputs: ((a, b), target)")

    def test_batch_encoding_with_labels(self) -> None:
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(
            n_layer=1, n_embd=16, n_head=2, vocab_size=50, bos_token_id=0, eos_token_id=0
        )
        ids = torch.randint(0, 50, (3, 7))
        sample = transformers.BatchEncoding({"input_ids": ids, "labels": ids})
        found = _open(transformers.GPT2LMHeadModel(config), sample)
        assert found.objective.kind == "model's own loss"
        assert found.sample.target == "in the model"
        output = found.batches[0].run(found.model)
        assert found.objective(output, found.batches[0]) == output.loss
        assert found.objective.chance(output, found.batches[0])[1] == 50
        assert 0 < found.objective.constant(found.batches) <= np.log(50)
        # its dummy inputs are five tokens without labels; its configuration says more
        assert _open(transformers.GPT2LMHeadModel(config), None).sample.source == "made up"

    def test_batch_size_slices(self) -> None:
        assert [len(b.target) for b in _open(_net(), (X, Y), batch_size=30).batches] == [30, 30, 10]
        # a last batch of one row is dropped: batch norm cannot be trained on it
        assert [len(b.target) for b in _open(_net(), (X, Y), batch_size=23).batches] == [23] * 3

    @pytest.mark.parametrize(
        ("inputs", "target", "count"),
        [
            (((8, 40, 3),), (8,), 8),
            (((40, 8, 3),), (8, 1), 8),  # time first
            (((8, 40), (40, 40)), (8,), 8),  # a mask beside it
            (((40, 8, 3), (2, 8, 6)), None, 8),  # with a state: the one size they share
            (((40, 8), (40, 8, 3), (8,)), None, 8),
            (((40, 8), (2, 40, 8)), None, None),
            (((40, 8),), (320,), None),  # flattened: either could be it
            (((8, 3),), (), 8),
            (((),), None, None),
        ],
    )
    def test_the_axis_that_counts_samples(
        self, inputs: tuple[tuple[int, ...], ...], target: tuple[int, ...] | None, count: int | None
    ) -> None:
        given = None if target is None else torch.zeros(target)
        assert sample_count(Batch(tuple(torch.zeros(s) for s in inputs), given)) == count

    def test_time_first_sequences_say_their_batch_size(self) -> None:
        class Last(nn.LSTM):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x)[0][-1]

        batches = [(torch.randn(40, 8, 3), torch.randn(8, 1)) for _ in range(2)]
        assert _open(Last(3, 1), batches).sample.batch_size == 8

    def test_batches_of_differing_shape(self) -> None:
        model = nn.LSTM(3, 4)
        found = _open(model, [torch.randn(n, 2, 3) for n in (5, 7, 5)])
        assert [b.target.shape[0] for b in found.batches] == [5, 7, 5]

    def test_example_input_array(self) -> None:
        model = Two()
        model.example_input_array = (torch.randn(6, 4), torch.randn(6, 2))
        found = _open(model, None)
        assert (found.sample.source, found.sample.target) == ("carried", "made up")
        assert "example_input_array" in found.notes[0]


class TestFiles:
    def _spec(self, write, path: str, **options: object) -> Opened:
        from gradaudit.subject import open_subject

        write("net.py", MODEL)
        return open_subject("net.py:net", Settings(data=path, **options))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "name", ["a.pt", "a.npz", "a.npy", "a.safetensors", "pair.pt", "list.pt"]
    )
    def test_arrays(self, write, name: str) -> None:
        if name == "a.npz":
            np.savez(name, x=X.double().numpy(), y=Y.double().numpy())
        elif name == "a.npy":
            np.save(name, X.numpy())
        elif name == "a.safetensors":
            save_file({"x": X, "y": Y}, name)
        else:
            content = {"a.pt": {"x": X.double(), "y": Y}, "pair.pt": (X, Y)}
            torch.save(content.get(name, [(X[:32], Y[:32]), (X[32:64], Y[32:64])]), name)
        found = self._spec(write, name)
        assert [b.inputs[0].shape[0] for b in found.batches][:2] == [32, 32]
        assert torch.equal(found.batches[1].inputs[0], X[32:64])
        assert found.batches[0].inputs[0].dtype == torch.float32
        if name != "a.npy":
            assert torch.equal(found.batches[1].target, Y[32:64])

    def test_content_decides(self, write) -> None:
        np.save("a.npy", X.numpy())
        Path("a.npy").rename("a.csv")
        assert self._spec(write, "a.csv").sample.source == "given"

    def test_csv(self, write) -> None:
        Path("t.csv").write_text("a,b,c,d,price\n1,2,3,4,0.5\n5,6,7,8,1.5\n2,3,4,5,-3\n")
        found = self._spec(write, "t.csv")
        assert found.batches[0].inputs[0].tolist()[1] == [5, 6, 7, 8]
        assert found.batches[0].target.tolist() == [0.5, 1.5, -3.0]
        found = self._spec(write, "t.csv", target="a")
        assert found.batches[0].inputs[0].tolist()[0] == [2, 3, 4, 0.5]
        assert found.batches[0].target.tolist() == [1, 5, 2]

    def test_csv_classes(self, write) -> None:
        Path("t.csv").write_text("a,b,c,d,kind\n" + "1,2,3,4,0\n5,6,7,8,1\n" * 4)
        found = self._spec(write, "t.csv")
        assert found.batches[0].target.dtype == torch.int64
        assert found.objective.kind == "bce_with_logits"

    def test_code(self, write) -> None:
        write("d.py", "def batch():\n    return torch.ones(5, 4), torch.ones(5)\n"
                      "def stream():\n    while True:\n        yield batch()\n"
                      "def broken():\n    raise OSError('disk on fire')\n")  # fmt: skip
        assert len(self._spec(write, "d.py:batch").batches) == 1
        budget = Settings().budget
        wanted = budget.gradient_batches + budget.rehearsal_steps
        assert len(self._spec(write, "d.py:stream").batches) == wanted
        with pytest.raises(
            ModelError, match=r"^d.py:broken raised OSError: disk on fire \(d.py:9\)$"
        ):
            self._spec(write, "d.py:broken")

    @pytest.mark.parametrize(
        ("name", "content", "kind", "message"),
        [
            ("no.npz", None, UnreadableFile, "no such file: no.npz"),
            ("e.npz", b"", BadData, "e.npz is empty"),
            ("t.npz", b"PK\x03\x04rest", UnreadableFile, "damaged or truncated zip"),
            ("b.bin", b"\x00\x01\x02\x03" * 9, UnreadableFile, "of no known kind"),
            ("t.npy", b"\x93NUMPY\x01\x00v\x00{'desc", UnreadableFile, "cannot be read as numpy"),
            ("one.csv", b"a\n1\n", BadData, "at least two columns"),
            ("h.csv", b"1,2\n3,4\n", BadData, "has no header"),
            ("r.csv", b"a,b\n", BadData, "a header but no rows"),
            ("w.csv", b"a,b\n1,2,3\n", BadData, "w.csv, row 2, has 3 cells; expected 2"),
            ("s.csv", b"a,b\n1,red\n", BadData, "row 2, column 'b', is not a number; found 'red'"),
            ("g.csv", b"a,b\n1,\n", BadData, "found an empty cell"),
            ("n.csv", b"a,b,c,d,e\n1,2,nan,4,5\n", BadData, "NaN first at index [0, 2]"),
            ("c.csv", b"a,b,c\n1,2,3\n", BadData, "first layer '0' (Linear)"),
        ],
    )
    def test_bad_files(self, write, name, content, kind, message) -> None:
        if content is not None:
            Path(name).write_bytes(content)
        with pytest.raises(GradauditError) as caught:
            self._spec(write, name)
        assert type(caught.value) is kind
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_csv_target_that_is_not_there(self, write) -> None:
        Path("t.csv").write_text("a,b\n1,2\n")
        with pytest.raises(BadData, match="no column 'c' for --target; expected one of a, b"):
            self._spec(write, "t.csv", target="c")

    def test_object_arrays_and_other_zips(self, write) -> None:
        np.save("o.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
        with pytest.raises(UnreadableFile, match="which may run code"):
            self._spec(write, "o.npy")
        np.savez("s.npz", x=np.array(["a", "b"]))
        with pytest.raises(BadData, match="not numeric"):
            self._spec(write, "s.npz")

    def test_directory(self, write, folder: Path) -> None:
        (folder / "sub").mkdir()
        with pytest.raises(UnreadableFile, match="found a directory"):
            self._spec(write, "sub")


class TestBadSamples:
    def test_empty(self) -> None:
        assert "the sample is empty" in _fails(_net(), [])
        assert "input has shape [0, 4]" in _fails(_net(), (X[:0], Y[:0]))
        assert "empty mapping" in _fails(_net(), {})
        assert "no inputs" in _fails(_net(), {"y": Y})

    def test_nan_and_infinity(self) -> None:
        bad = X.clone()
        bad[3, 2] = float("nan")
        bad[5, 0] = float("inf")
        text = _fails(_net(), [(X, Y), (bad, Y)])
        assert text.startswith("input of batch 1 holds 2 values that are NaN or infinite")
        assert "NaN first at index [3, 2]" in text
        assert "target holds 1 value" in _fails(
            _net(), (X, torch.cat([Y[:-1], torch.tensor([torch.inf])]))
        )

    def test_attention_masks_of_minus_infinity_are_sound(self) -> None:
        model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 1)
        mask = nn.Transformer.generate_square_subsequent_mask(5)
        found = _open(model, {"src": torch.randn(2, 5, 8), "mask": mask, "y": torch.randn(2, 5, 8)})
        assert found.objective.kind == "mse"
        found = _open(model, {"mask": mask, "src": torch.randn(2, 5, 8), "y": torch.randn(2, 5, 8)})
        assert found.sample.target == "given"

    def test_wrong_width(self) -> None:
        assert _fails(_net(), torch.randn(3, 5)) == (
            "the input does not fit the first layer '0' (Linear); expected float32 values with 4 "
            "in the last dimension; found shape [3, 5]"
        )
        conv = nn.Sequential(nn.Conv2d(3, 4, 3))
        assert "3 in dimension -3; found shape [2, 1, 8, 8]" in _fails(
            conv, torch.randn(2, 1, 8, 8)
        )
        assert "of 2 or 3 dimensions with 3 in the last" in _fails(
            nn.GRU(3, 4), torch.randn(5, 2, 7)
        )
        assert "found shape [5, 2, 7]" in _fails(
            nn.TransformerEncoderLayer(8, 2), torch.randn(5, 2, 7)
        )

    def test_flattening_models_are_not_judged_before_they_run(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
        assert _open(model, torch.randn(5, 3, 4)).sample.source == "given"

        class Reshapes(nn.Linear):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x.flatten(1))

        assert _open(Reshapes(12, 1), torch.randn(5, 3, 4)).sample.source == "given"

    def test_wrong_types(self) -> None:
        whole = torch.randint(0, 9, (5, 4))
        assert "found int64 values; convert the data to float32" in _fails(_net(), whole)
        assert "found float64 values; convert the data to float32" in _fails(_net(), X.double())
        tokens = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
        assert "integer indices from 0 to 8; found float32 values" in _fails(tokens, X)
        assert "found the index 9" in _fails(tokens, torch.full((2, 3), 9))
        assert "found the index -1" in _fails(tokens, torch.full((2, 3), -1))

    def test_mistakes_inside_a_forward(self) -> None:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = nn.Linear(4, 4), nn.Linear(5, 1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.b(self.a(x))

        assert "the sample does not fit the first layer 'a' (Linear)" in _fails(Net(), X[:, :3])
        text = _fails(Net(), X, ModelError)
        assert "the model's forward raised RuntimeError" in text
        assert "(test_sample.py:" in text
        assert "layer 'b' (Linear): float32 values with 5" in text

    def test_unfit_forms(self) -> None:
        assert "is no sample" in _fails(_net(), 3)
        assert "is no sample" in _fails(_net(), "data.npz")
        assert "no known form" in _fails(_net(), [3])
        assert "inputs hold no tensor" in _fails(_net(), {"a": 1})
        assert "70 rows and target has 69" in _fails(_net(), (X, Y[:-1]), batch_size=8)
        assert "ragged" in _fails(_net(), {"input": [[1.0, 2.0], [3.0]]})

    def test_iterables_that_raise(self) -> None:
        def broken():
            yield X, Y
            raise OSError("disk on fire")

        assert "the sample raised OSError: disk on fire" in _fails(_net(), broken(), ModelError)

    def test_wrong_number_of_inputs(self) -> None:
        text = _fails(Two(), torch.randn(6, 4), ModelError)
        assert "missing 1 required positional argument: 'right'" in text
        assert "the sample given: input float32[6, 4]" in text


class TestMadeUp:
    @pytest.mark.parametrize(
        ("model", "shape", "kind"),
        [
            (nn.Linear(10, 3), (32, 10), "mse"),
            (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (32, 784), "mse"),
            (nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)),
             (8, 3, 32, 32), "cross_entropy"),
            (nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(2 * 24 * 24, 10)),
             (8, 1, 28, 28), "cross_entropy"),
            (nn.Sequential(nn.Conv2d(3, 2, 33), nn.Flatten(), nn.LazyLinear(4)),
             (8, 3, 64, 64), "cross_entropy"),
            (nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU()), (8, 2, 128), "mse"),
            (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)), (8, 32), "cross_entropy"),
            (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5)), (8, 32), "mse"),
            (nn.RNN(3, 4), (32, 8, 3), "mse"),
            (nn.GRU(3, 4, batch_first=True), (8, 32, 3), "mse"),
            (nn.TransformerEncoderLayer(8, 2, batch_first=True), (8, 32, 8), "mse"),
            (nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(-1)), (32, 4), "nll"),
            (nn.Linear(4, 2).double(), (32, 4), "mse"),
            (nn.Linear(4, 2).bfloat16(), (32, 4), "mse"),
        ],
    )  # fmt: skip
    def test_from_the_first_layer(
        self, model: nn.Module, shape: tuple[int, ...], kind: str
    ) -> None:
        found = _open(model, None)
        assert found.batches[0].inputs[0].shape == shape
        assert (found.sample.source, found.sample.target) == ("made up", "made up")
        assert found.notes[0].startswith("MADE-UP DATA")
        assert found.objective.kind == kind
        loss = found.objective(found.batches[0].run(found.model), found.batches[0])
        assert torch.isfinite(loss)

    def test_where_it_is_not_unambiguous(self) -> None:
        found = _open(Two(), None)
        assert (found.batches, found.objective, found.sample.source) == ((), None, "none")
        assert "--data" in found.not_measured[0].why
        assert found.model is not None

    def test_where_the_forward_refuses(self) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 1))
        found = _open(model, None)
        assert found.batches == ()
        assert "on a made-up float32[32,4]" in found.not_measured[0].why

    def test_input_option(self) -> None:
        found = _open(_net(3), None, input="float32[7,4]", loss="cross_entropy")
        assert found.batches[0].inputs[0].shape == (7, 4)
        assert found.batches[0].target.dtype == torch.int64
        again = _open(_net(3), None, input="float32[7,4]", seed=0)
        assert torch.equal(found.batches[2].inputs[0], again.batches[2].inputs[0])
        assert not torch.equal(found.batches[2].inputs[0], found.batches[1].inputs[0])
        assert len(_open(Two(), None, input="float32[7,4];float32[7,2]").batches) == 8
        assert len(_open(Two(), None, input="float32[7,4],float32[7,2]").batches) == 8
        assert "found shape [7, 5]" in _fails(_net(), None, input="float32[7,5]")

    def test_input_spec(self) -> None:
        (drawn,) = parse_input_spec(" int64[8, 128]<50257 ")
        assert (drawn.shape, drawn.limit, str(drawn)) == ((8, 128), 50257, "int64[8,128]<50257")
        values = drawn.draw(torch.Generator().manual_seed(0))
        assert values.min() >= 0
        assert values.max() < 50257

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("", "--input is empty"),
            ("float32", "cannot be read"),
            ("float32[8,", "cannot be read"),
            ("floot[8,3]", "unknown dtype"),
            ("float32[]", "no elements"),
            ("float32[8,0]", "0 elements"),
            ("float32[100000,100000]", "10000000000 elements"),
            ("int64[8,3]", "needs a bound"),
            ("float32[8,3]<9", "bound that does not apply"),
            ("int64[8,3]<0", "bound that does not apply"),
        ],
    )
    def test_bad_input_specs(self, spec: str, message: str) -> None:
        with pytest.raises(UsageError) as caught:
            parse_input_spec(spec)
        assert message in str(caught.value)
