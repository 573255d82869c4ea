"""Hugging Face folders: built as transformers itself builds them, else their weights alone."""

from __future__ import annotations

import json
import os
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import nn

from gradaudit.errors import RefusedFile, UnreadableFile
from gradaudit.subject.formats.huggingface.build import quiet
from gradaudit.subject.formats.huggingface.opening import inspect_huggingface
from gradaudit.subject.formats.huggingface.shards import read_shards
from tests.command import FAST, checked, python, run
from tests.subject.pretrained import MODELS, configure, gpt2, save, saved


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("pretrained")
    saved("GPT-2", home / "whole")
    saved("GPT-2", home / "sharded", max_shard_size="40KB")
    return home


@pytest.fixture
def whole(originals: Path, folder: Path) -> Path:
    return Path(shutil.copytree(originals / "whole", folder / "whole"))


@pytest.fixture
def sharded(originals: Path, folder: Path) -> Path:
    return Path(shutil.copytree(originals / "sharded", folder / "sharded"))


def reference(path: Path) -> Any:
    """The model as transformers opens the folder."""
    config = json.loads((path / "config.json").read_text())
    with quiet():
        return getattr(hf, config["architectures"][0]).from_pretrained(path, torch_dtype="auto")


def same(found: nn.Module | None, wanted: nn.Module) -> bool:
    assert found is not None
    theirs = {**dict(wanted.named_buffers()), **wanted.state_dict()}
    ours = {**dict(found.named_buffers()), **found.state_dict()}
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == value.dtype and torch.equal(ours[name], value)
        for name, value in theirs.items()
    )


class TestBuilding:
    @pytest.mark.parametrize("name", MODELS)
    def test_every_bit_is_as_transformers_loads_it(self, opened, folder: Path, name: str) -> None:
        path = saved(name, folder / "model", max_shard_size="60KB")
        found = opened("model")
        assert type(found.model) is type(reference(path))
        assert same(found.model, reference(path))
        assert found.row.format == "Hugging Face model"
        assert found.row.name == type(found.model).__name__
        assert not [note for note in found.notes if "config.json" in note or "NEWLY" in note]
        assert found.sample.source == "made up"

    def test_pickled_weights_are_read_as_well(self, opened, whole: Path) -> None:
        wanted = reference(whole)
        weights = load_file(whole / "model.safetensors")
        (whole / "model.safetensors").unlink()
        torch.save(weights, whole / "pytorch_model.bin")
        assert same(opened("whole").model, wanted)

    def test_tied_weights_stay_tied(self, opened, whole: Path) -> None:
        model = opened("whole").model
        assert model.lm_head.weight is model.transformer.wte.weight

    def test_half_precision_stays(self, opened, folder: Path) -> None:
        save(gpt2().bfloat16(), folder / "half")
        found = opened("half")
        assert {p.dtype for p in found.model.parameters()} == {torch.bfloat16}
        assert not [note for note in found.notes if "stores" in note]

    def test_another_dtype_in_the_configuration_is_told(self, opened, whole: Path) -> None:
        configure(whole, dtype="bfloat16", torch_dtype="bfloat16")
        found = opened("whole")
        assert same(found.model, reference(whole))
        assert any(
            "stores float32; the model is opened in bfloat16" in note for note in found.notes
        )

    def test_new_heads_and_unused_tensors_are_told(self, opened, folder: Path) -> None:
        save(gpt2(), folder / "model")
        weights = load_file(folder / "model" / "model.safetensors")
        save_file({**weights, "stray": torch.ones(2)}, folder / "model" / "model.safetensors")
        configure(folder / "model", architectures=["GPT2ForSequenceClassification"])
        notes = opened("model").notes
        assert any("NEWLY INITIALIZED: 1 tensors" in n and "'score.weight'" in n for n in notes)
        assert any("1 tensors in the file are not used" in n and "'stray'" in n for n in notes)

    def test_the_audit_is_that_of_the_model_in_python(self, whole: Path, folder: Path) -> None:
        (folder / "net.py").write_text(
            "from transformers import GPT2LMHeadModel\n"
            "def build():\n    return GPT2LMHeadModel.from_pretrained('whole')\n"
        )
        reports = []
        for spec in ("whole", "net.py:build"):
            ran = run(spec, *FAST, "--no-html", "--json", "-", cwd=folder)
            assert ran.code == 0, ran.err
            reports.append(checked(ran.out))
        assert reports[0]["measurements"] == reports[1]["measurements"]
        assert reports[0]["findings"] == reports[1]["findings"]

    def test_libraries_are_left_as_they_were(self, opened, whole: Path) -> None:
        from huggingface_hub import constants
        from transformers.utils import logging

        before = (
            constants.HF_HUB_OFFLINE, logging.get_verbosity(), logging.is_progress_bar_enabled()
        )  # fmt: skip
        opened("whole")
        now = (constants.HF_HUB_OFFLINE, logging.get_verbosity(), logging.is_progress_bar_enabled())
        assert now == before


class TestSamples:
    """What is drawn, and the loss, by the class's own words."""

    CASES: ClassVar = {
        "GPT-2": "input_ids int64[8,64]<96; labels = input_ids",
        "GPT-2 body": "input_ids int64[8,64]<96",
        "BERT classes": "input_ids int64[8,64]<96; labels int64[8]<5",
        "T5": "input_ids int64[8,64]<96; labels int64[8,64]<96",
        "ViT": "pixel_values float32[8,3,32,32]; labels int64[8]<7",
        "ResNet": "pixel_values float32[8,3,64,64]; labels int64[8]<5",
        "Whisper": "input_features float32[4,16,120]; labels int64[4,8]<96",
    }

    @pytest.mark.parametrize("name", CASES)
    def test_drawn_from_the_configuration(self, opened, folder: Path, name: str) -> None:
        saved(name, folder / "model")
        found = opened("model")
        assert f"random {self.CASES[name]}, from the model's config" in found.sample.description
        assert found.sample.target == "made up"
        own = "model's own loss" if "labels" in self.CASES[name] else "mse"
        assert found.objective.kind == own
        assert len(found.batches) == 8

    def test_a_classifier_without_padding_takes_one_at_a_time(self, opened, folder: Path) -> None:
        save(gpt2(hf.GPT2ForSequenceClassification, num_labels=3), folder / "model")
        found = opened("model")
        assert (found.sample.batch_size, found.objective.kind) == (1, "model's own loss")

    def test_regression_takes_floats(self, opened, folder: Path) -> None:
        model = gpt2(hf.GPT2ForSequenceClassification, num_labels=1, pad_token_id=0)
        save(model, folder / "model")
        assert opened("model").batches[0].inputs["labels"].dtype == torch.float32


class TestWeightsOnly:
    def _only(self, opened: Callable[..., Any], spec: str) -> tuple[Any, str]:
        found = opened(spec)
        assert found.model is None
        assert found.row.format == "Hugging Face weights"
        return found, " ".join(found.notes)

    def test_without_a_configuration(self, opened, sharded: Path) -> None:
        wanted = reference(sharded).transformer.state_dict()
        (sharded / "config.json").unlink()
        found, notes = self._only(opened, "sharded")
        assert "no config.json" in notes
        assert {f"transformer.{name}" for name in wanted} == set(found.weights)
        for name, value in wanted.items():
            assert torch.equal(found.weights[f"transformer.{name}"], value)

    def test_without_the_package(self, whole: Path, folder: Path) -> None:
        code = (
            "import sys; sys.modules['transformers'] = None\n"
            "from gradaudit.__main__ import main; main()"
        )
        ran = python("-c", code, "whole", *FAST, "--no-html", "--json", "-", cwd=folder)
        assert ran.code == 3, ran.err
        report = json.loads(ran.out)
        assert report["subject"]["format"] == "Hugging Face weights"
        said = " ".join(ran.err.split())
        assert "transformers is not installed (pip install transformers)" in said

    def test_into_the_users_own_code(self, opened, whole: Path, write: Any) -> None:
        """Of tied weights the file has one name."""
        wanted = reference(whole)
        configure(whole, n_embd=-4)
        write(
            "net.py",
            "from tests.subject.pretrained import gpt2\ndef build():\n    return gpt2()\n",
        )
        assert same(opened("whole", build="net.py:build").model, wanted)

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"architectures": ["NobodysModel"]}, "has no model 'NobodysModel'"),
            ({"architectures": ["../evil"]}, "has no model '../evil'"),
            ({"architectures": ["AutoModelForCausalLM"]}, "has no model 'AutoModelForCausalLM'"),
            ({"architectures": ["pipeline"]}, "has no model 'pipeline'"),
            ({"architectures": ["BertModel"]}, "calls the model 'gpt2', and BertModel is 'bert'"),
            ({"architectures": None}, "names no class"),
            ({"architectures": [5]}, "names no class"),
            ({"quantization_config": {"quant_method": "gptq"}}, "quantized ('gptq')"),
        ],
    )
    def test_classes_that_are_not_built(
        self, opened, whole: Path, changes: dict[str, Any], why: str
    ) -> None:
        configure(whole, **changes)
        _, notes = self._only(opened, "whole")
        assert why in notes


CODE = """\
from pathlib import Path
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

Path({canary!r}).write_text("run")

class TinyConfig(PreTrainedConfig):
    model_type = "tiny-own"

class TinyModel(PreTrainedModel):
    config_class = TinyConfig
    main_input_name = "x"
    def __init__(self, config):
        super().__init__(config)
        self.a = nn.Linear(8, 1)
        self.post_init()
    def forward(self, x):
        return self.a(x)
"""


class TestCodeInTheFolder:
    MAP: ClassVar = {"AutoConfig": "tiny_own.TinyConfig", "AutoModel": "tiny_own.TinyModel"}

    @pytest.fixture
    def custom(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        # transformers copies such code to a cache before it runs it
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder))
        path = folder / "custom"
        path.mkdir()
        config = {"architectures": ["TinyModel"], "model_type": "tiny-own", "auto_map": self.MAP}
        (path / "config.json").write_text(json.dumps(config))
        for name in ("tiny_own", "__init__", "configuration_gpt2", "sitecustomize"):
            (path / f"{name}.py").write_text(CODE.format(canary=str(folder / "canary")))
        save_file({"a.weight": torch.ones(1, 8), "a.bias": torch.zeros(1)},
                  path / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
        return path

    def test_it_is_not_run_without_trust(self, opened, custom: Path, folder: Path) -> None:
        found = opened("custom")
        assert found.model is None
        assert any("run only with --trust" in note for note in found.notes)
        configure(custom, architectures=["GPT2LMHeadModel"], model_type="gpt2")
        assert opened("custom").model is None  # a class of transformers', with code beside it
        inspect_huggingface(custom)
        assert not (folder / "canary").exists()

    def test_it_is_run_with_trust(self, opened, custom: Path, folder: Path) -> None:
        found = opened("custom", trust=True)
        assert type(found.model).__name__ == "TinyModel"
        assert torch.equal(found.model.a.weight, torch.ones(1, 8))
        assert any("Code in the folder was run" in note for note in found.notes)
        assert (folder / "canary").exists()

    def test_code_of_another_repository_is_not(self, line, custom: Path) -> None:
        configure(custom, auto_map={"AutoModel": "evil/repo--tiny_own.TinyModel"})
        assert "another repository" in line(UnreadableFile, "custom", trust=True)


class TestHostileConfigurations:
    @pytest.mark.parametrize(
        ("kind", "changes", "says"),
        [
            (RefusedFile, {"vocab_size": 10**12}, "'vocab_size' = 1,000,000,000,000"),
            (RefusedFile, {"vocab_size": 1e12}, "'vocab_size' = "),
            (RefusedFile, {"n_layer": 10**9}, "'n_layer' = 1,000,000,000"),
            (RefusedFile, {"n_layer": 60_000}, "a model of more layers"),
            (RefusedFile, {"n_positions": 1 << 23}, "a tensor of 268,435,456 elements"),
            (RefusedFile, {"num_labels": 10**7}, "'num_labels' = 10,000,000"),
            (RefusedFile, {"a": {"b": [1] * 5_000}}, "a list 'a.b' of 5,000 entries"),
            (UnreadableFile, {"n_embd": -4}, "negative dimension"),
            (UnreadableFile, {"n_head": 0}, "ZeroDivisionError"),
            (UnreadableFile, {"n_layer": "2"}, "n_layer"),
            (UnreadableFile, {"n_embd": [8]}, "n_embd"),
            (UnreadableFile, {"activation_function": "os.system"}, "os.system"),
            (UnreadableFile, {"dtype": "load"}, "GPT2LMHeadModel"),
            (UnreadableFile, {"n_inner": 64}, "do not fit the GPT2LMHeadModel"),
        ],
        ids=lambda value: "".join(map(str, value))[:12] if isinstance(value, dict) else None,
    )
    def test_absurd_numbers(
        self, line, whole: Path, kind: Any, changes: dict[str, Any], says: str
    ) -> None:
        configure(whole, **changes)
        assert says in line(kind, "whole")

    def test_settings_that_name_code_or_repositories_are_left_out(
        self, opened, whole: Path
    ) -> None:
        wanted = reference(whole)
        configure(
            whole, attn_implementation="evil/kernel", _attn_implementation="evil/kernel",
            experts_implementation="evil/kernel", fusion_config={"patch": True}, to_dict="x",
        )  # fmt: skip
        found = opened("whole")
        assert same(found.model, wanted)
        assert found.model.config._attn_implementation == wanted.config._attn_implementation
        assert any("'attn_implementation'" in n and "left out" in n for n in found.notes)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (b"", "is not JSON"),
            (b"[1]", "holds no JSON object; expected {...}; found list"),
            (b"{" + b'"a":{' * 100_000, "nested too deep"),
            (b'{"a":' + b"[" * 80 + b"]" * 80 + b"}", "nested too deep"),
            (b'{"a": 1, "a": 2}', "the name 'a' stands twice"),
            (b'{"a": ' + b"9" * 5_000 + b"}", "is not JSON"),
            (b"\xff\xfe{}", "is not JSON"),
        ],
        ids=["empty", "list", "deep", "lists", "twice", "digits", "bytes"],
    )
    def test_no_configuration(self, line, whole: Path, text: bytes, says: str) -> None:
        (whole / "config.json").write_bytes(text)
        assert says in line(UnreadableFile, "whole")

    def test_a_large_one_is_not_read(self, line, whole: Path) -> None:
        with (whole / "config.json").open("r+b") as stream:
            stream.truncate(100 << 20)
        assert "larger than any of its kind" in line(RefusedFile, "whole")


class TestHostileIndexes:
    def _map(self, path: Path, weight_map: Any) -> None:
        index = path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": weight_map}))

    def _names(self, path: Path) -> dict[str, str]:
        found = json.loads((path / "model.safetensors.index.json").read_text())
        names: dict[str, str] = found["weight_map"]
        return names

    @pytest.mark.parametrize(
        "name",
        ["../x.safetensors", "/etc/passwd", "..", "a/b.safetensors", "a\\b", "c:x", "", "a\0b"],
    )
    def test_shards_elsewhere(self, line, sharded: Path, name: str) -> None:
        self._map(sharded, {"a": name})
        assert "names a file outside itself" in line(RefusedFile, "sharded")

    def test_names_are_quoted_and_cut(self, line, sharded: Path) -> None:
        self._map(sharded, {"a": "\x1b[31m\n" + "x" * 240})
        text = line(UnreadableFile, "sharded")
        assert "\x1b" not in text
        assert len(text) < 250

    @pytest.mark.parametrize("weight_map", [None, {}, [], {"a": 1}, {"a": {"b": "c"}}, "x"])
    def test_no_map(self, line, sharded: Path, weight_map: Any) -> None:
        self._map(sharded, weight_map)
        assert "maps no tensors to files" in line(UnreadableFile, "sharded")

    def test_a_missing_shard_is_named(self, line, sharded: Path) -> None:
        (sharded / "model-00002-of-00004.safetensors").unlink()
        assert "lacks the file 'model-00002-of-00004.safetensors'" in line(
            UnreadableFile, "sharded"
        )

    def test_a_tensor_that_is_in_no_shard(self, line, sharded: Path) -> None:
        names = self._names(sharded)
        self._map(sharded, {**names, "extra": "model-00001-of-00004.safetensors"})
        text = line(UnreadableFile, "sharded")
        assert "expected 'extra' in 'model-00001-of-00004.safetensors'" in text

    def test_a_tensor_that_is_not_in_the_map_is_told(self, opened, sharded: Path) -> None:
        wanted, names = reference(sharded), self._names(sharded)
        first = next(iter(names))
        self._map(sharded, {name: shard for name, shard in names.items() if name != first})
        found = opened("sharded")
        assert same(found.model, wanted)
        assert any(first in note and "not in model.safetensors.index" in note
                   for note in found.notes)  # fmt: skip

    def test_links(self, line, opened, sharded: Path, folder: Path) -> None:
        wanted = reference(sharded)
        shard = sharded / "model-00001-of-00004.safetensors"
        shard.rename(sharded / "renamed")
        shard.symlink_to("renamed")
        assert same(opened("sharded").model, wanted)  # within the folder
        (sharded / "renamed").rename(folder / "outside")
        shard.unlink()
        shard.symlink_to(folder / "outside")
        assert "is a link that leads out of sharded" in line(RefusedFile, "sharded")
        shard.unlink()
        shard.symlink_to(shard.name)
        assert "cannot be read" in line(UnreadableFile, "sharded")

    def test_the_cache_of_hugging_face(self, line, opened, sharded: Path, folder: Path) -> None:
        wanted = reference(sharded)
        cache = folder / "models--a--b"
        blobs, snapshot = cache / "blobs", cache / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        for number, file in enumerate(sorted(sharded.iterdir())):
            (blobs / str(number)).write_bytes(file.read_bytes())
            (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
        assert same(opened(str(snapshot)).model, wanted)
        (folder / "models--c--d" / "blobs").mkdir(parents=True)
        other = (blobs / "0").rename(folder / "models--c--d" / "blobs" / "0")
        (snapshot / "config.json").unlink()
        (snapshot / "config.json").symlink_to(other)
        assert "leads out of abc" in line(RefusedFile, str(snapshot))

    @pytest.mark.parametrize("name", ["model-00001-of-00004.safetensors", "config.json"])
    def test_pipes_and_folders(self, line, sharded: Path, name: str) -> None:
        (sharded / name).unlink()
        os.mkfifo(sharded / name)
        assert "is not a regular file" in line(UnreadableFile, "sharded")
        (sharded / name).unlink()
        (sharded / name).mkdir()
        assert "is not a regular file" in line(UnreadableFile, "sharded")

    def test_a_large_index_is_not_read(self, line, sharded: Path) -> None:
        with (sharded / "model.safetensors.index.json").open("r+b") as stream:
            stream.truncate(65 << 20)
        assert "larger than any of its kind" in line(RefusedFile, "sharded")

    def test_a_pickle_that_runs_code(self, line, whole: Path, folder: Path) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(folder / "canary"),)

        (whole / "model.safetensors").unlink()
        torch.save({"a": Bomb()}, whole / "pytorch_model.bin")
        assert "mkdir" in line(RefusedFile, "whole")
        assert not (folder / "canary").exists()

    def test_a_pickle_of_other_classes_is_opened_with_trust(self, line, whole: Path) -> None:
        (whole / "model.safetensors").unlink()
        (whole / "config.json").unlink()
        content = {"a.weight": torch.ones(3, 2), "made": string.Template("x")}
        torch.save(content, whole / "pytorch_model.bin")
        assert "string.Template" in line(RefusedFile, "whole")
        assert list(read_shards(whole, trust=True).weights) == ["a.weight"]

    def test_no_weights(self, line, whole: Path) -> None:
        (whole / "model.safetensors").rename(whole / "tf_model.h5")
        text = line(UnreadableFile, "whole")
        assert "holds no weights; expected model.safetensors" in text
        assert "found tf_model.h5" in text


def test_contents_are_told_without_building(sharded: Path) -> None:
    found = inspect_huggingface(sharded)
    weights = reference(sharded).transformer.state_dict()
    assert {t.name: (t.dtype, t.shape, t.size) for t in found.tensors} == {
        f"transformer.{name}": ("float32", tuple(value.shape), 4 * value.numel())
        for name, value in weights.items()
    }
    assert (found.kind, found.trust, found.globals) == ("huggingface", "none", ())
    assert "class: 'GPT2LMHeadModel', model type: 'gpt2'" in found.notes
    assert found.size == sum(f.stat().st_size for f in sharded.glob("*.safetensors"))
