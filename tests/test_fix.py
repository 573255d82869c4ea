"""``gradaudit fix``: what is written trains, nothing else is touched, and bad input is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import gradaudit
from gradaudit.written import script
from tests.command import FAST, SAMPLES, Ran, checked, files_in, run
from tests.test_api import state_of

CURE = ["fix.py", "model.safetensors", "recipe.json", "report.html", "report.json"]
REPORTS = ["report.html", "report.json"]
KEYS = [
    *("optimizer", "lr", "momentum", "betas", "eps", "weight_decay"),
    *("clip_norm", "warmup_steps", "schedule", "loss_scale", "input", "target"),
]
NET = """
import time

import torch
from torch import nn

import gradaudit

X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))
Y = X @ torch.randn(8, 2, generator=torch.Generator().manual_seed(1))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))


def batches():
    return list(zip(X.split(16), Y.split(16)))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05)


def sound():
    return gradaudit.Subject(net(), batches(), "mse", sgd)


def too_fast():
    return gradaudit.Subject(
        net(), batches(), "mse", lambda p: torch.optim.SGD(p, lr=30.0, momentum=0.5)
    )


class OutsideItsDomain(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        return self.net(x.log())


def incurable():
    return gradaudit.Subject(OutsideItsDomain(), batches(), "mse", sgd)


def without_data():
    torch.manual_seed(0)
    layers = [nn.Linear(8, 64), nn.Tanh()]
    for _ in range(30):
        layers += [nn.Linear(64, 64), nn.Tanh()]
        nn.init.normal_(layers[-2].weight, std=5 / 8)
    return nn.Sequential(*layers, nn.Linear(64, 2))


def waiting():
    print("waiting", flush=True)
    time.sleep(60)
"""


@dataclass(frozen=True)
class Cure:
    """One run of the command, and the folder it wrote."""

    ran: Ran
    folder: Path
    source: types.ModuleType | None = None  # the sample's own code

    @property
    def start(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "model.safetensors")

    @property
    def recipe(self) -> dict[str, Any]:
        return json.loads((self.folder / "recipe.json").read_text())

    @property
    def code(self) -> Any:
        return imported((self.folder / "fix.py").read_text(encoding="utf-8"))


def imported(text: str) -> Any:
    """``fix.py`` as a module of its own."""
    module = types.ModuleType("fix")
    exec(compile(text, "fix.py", "exec"), vars(module))
    return module


@pytest.fixture(scope="module")
def cured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Cure]:
    """Runs the command on a sample, once in this module."""
    known: dict[str, Cure] = {}

    def cure(name: str) -> Cure:
        if name not in known:
            here = tmp_path_factory.mktemp(name)
            spec = f"{SAMPLES / name}.py:subject"
            ran = run("fix", spec, "--threads", "1", "-o", "cure", cwd=here)
            source = types.ModuleType(name)
            exec(compile((SAMPLES / f"{name}.py").read_text(), name, "exec"), vars(source))
            known[name] = Cure(ran, here / "cure", source)
        return known[name]

    return cure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


ILL = ["exploding_mlp", "vanishing_relu_mlp", "lstm_forecast_raw"]


# What is written


@pytest.mark.parametrize("name", ILL)
def test_a_cure_is_written_with_its_proof(name: str, cured: Callable[[str], Cure]) -> None:
    cure = cured(name)
    assert cure.ran.code == 0, cure.ran.err
    assert cure.ran.out == ""
    assert files_in(cure.folder.parent) == sorted(["cure", *(f"cure/{file}" for file in CURE)])
    assert "→ trains, loss " in cure.ran.err
    assert cure.ran.said[-1].startswith("Written to cure: model.safetensors, ")
    report = json.loads((cure.folder / "report.json").read_text())
    proof = report["prescription"]["proof"]
    assert proof["before"]["verdict"] == "fail"
    assert proof["after"]["forecast"]["outcome"] == "trains"
    assert proof["after"]["failing"] == []
    page = (cure.folder / "report.html").read_text(encoding="utf-8")
    assert "Measured again after the changes" in page


@pytest.mark.parametrize("name", ILL)
def test_the_start_is_the_models_own_and_prepare_makes_it(
    name: str, cured: Callable[[str], Cure]
) -> None:
    cure = cured(name)
    assert cure.source is not None
    given = cure.source.model()
    before = {key: value.clone() for key, value in given.state_dict().items()}
    start = cure.start
    assert set(start) == set(before)
    given.load_state_dict(start, strict=True)
    prepared = cure.code.prepare(cure.source.model()).state_dict()
    assert set(prepared) == set(start)
    for key, value in start.items():
        assert value.dtype == before[key].dtype
        assert torch.equal(prepared[key], value), key
    changed = any(not torch.equal(value, before[key]) for key, value in start.items())
    assert changed == name.endswith("mlp")


@pytest.mark.parametrize("name", ILL)
def test_the_recipe_has_the_contracts_keys(name: str, cured: Callable[[str], Cure]) -> None:
    recipe = cured(name).recipe
    assert list(recipe) == KEYS
    if name == "lstm_forecast_raw":
        assert recipe["input"]["shift"] == pytest.approx([4000], rel=0.1)
        assert recipe["target"]["scale"] == pytest.approx([930], rel=0.1)
    else:
        assert recipe["input"] == recipe["target"] == {"shift": None, "scale": None}


@pytest.mark.parametrize("name", ILL)
def test_the_script_trains_what_the_recipe_did_not(name: str, cured: Callable[[str], Cure]) -> None:
    """On the sample's own batches; losses are relative to what a constant predicts."""
    cure = cured(name)
    assert cure.source is not None
    code, subject = cure.code, cure.source.subject()
    classes = name.endswith("mlp")
    loss_function = nn.functional.cross_entropy if classes else nn.functional.mse_loss
    batches = subject.sample
    model = code.prepare(cure.source.model())
    optimizer = code.make_optimizer(model)
    losses = [
        code.training_step(model, optimizer, *batches[i % len(batches)], loss_function, i)
        for i in range(250)
    ]
    plain = cure.source.model()
    optimizer = subject.optimizer(plain.parameters())
    without = []
    for i in range(100):
        x, y = batches[i % len(batches)]
        optimizer.zero_grad()
        loss = loss_function(plain(x), y)
        loss.backward()
        optimizer.step()
        without.append(loss.item())
    chance = 2.3 if classes else 1.0
    assert sum(losses[-8:]) / 8 < 0.4 * chance
    variance = 1.0 if classes else torch.cat([y for _, y in batches]).var().item()
    assert sum(without[-8:]) / 8 > 0.8 * chance * variance
    if not classes:
        x, y = batches[0]
        shift, scale = cure.recipe["input"]["shift"], cure.recipe["input"]["scale"]
        with torch.no_grad():
            said = code.to_original(model((x - torch.tensor(shift)) / torch.tensor(scale)))
        assert loss_function(said, y).item() < 0.25 * variance


def test_the_files_are_open_as_new_files_are(cured: Callable[[str], Cure], tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    wanted = (tmp_path / "new").stat().st_mode
    cure = cured(ILL[0])
    assert {(cure.folder / name).stat().st_mode for name in CURE} == {wanted}


# What is not changed


class Odd(nn.Module):
    """Names that would end a string or a comment, a layer under two names, a frozen bias."""

    NAMES = ('qu"ote', "back\\slash", 'new\nline = exit()\n"""', "{brace}", "ünï'\u2028")

    def __init__(self) -> None:
        super().__init__()
        self.names = [*self.NAMES, *(f"layer {i}" for i in range(12))]
        for name in self.names:
            self.add_module(name, nn.Linear(16, 16))
            nn.init.normal_(getattr(self, name).weight, std=0.9)
        self.again = getattr(self, self.names[0])
        self.head = nn.Linear(16, 2)
        self.head.bias.requires_grad_(False)
        self.register_buffer("in_half", torch.ones(2, dtype=torch.float16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.names:
            x = torch.tanh(getattr(self, name)(x))
        return self.head(self.again(x))


def test_from_python_the_model_comes_back_as_it_was() -> None:
    torch.manual_seed(3)
    model = Odd()
    x = torch.randn(64, 16)
    y = (x @ torch.randn(16, 2)).argmax(1)
    before = state_of(model)
    fixed = gradaudit.fix(
        model,
        [(x[:32], y[:32]), (x[32:], y[32:])],
        loss="cross_entropy",
        optimizer=lambda p: torch.optim.SGD(p, lr=0.05),
        settings=gradaudit.Settings(effort="quick", threads=1),
    )
    assert str(state_of(model)) == str(before)
    assert isinstance(fixed, gradaudit.Fixed)
    assert fixed.changed, fixed.report.prescription
    assert set(fixed.start) == set(model.state_dict())
    assert fixed.start["in_half"].dtype == torch.float16
    pointers = [value.data_ptr() for value in fixed.start.values()]
    assert len(set(pointers)) == len(pointers)
    code = imported(script(fixed))
    prepared = code.prepare(model)
    assert prepared is model
    for name, value in model.state_dict().items():
        assert torch.equal(value, fixed.start[name]), name
    optimizer = code.make_optimizer(model)
    loss_function = nn.functional.cross_entropy
    losses = [code.training_step(model, optimizer, x, y, loss_function, i) for i in range(50)]
    assert losses[-1] < losses[0]


def test_learned_weights_stay(folder: Path) -> None:
    ran = run(
        "fix", "net.py:too_fast", "--state", "trained", *FAST, "-o", "cure", cwd=folder
    )  # fmt: skip
    assert ran.code == 0, ran.err
    cure = Cure(ran, folder / "cure")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))
    start = cure.start
    for name, value in net.state_dict().items():
        assert torch.equal(start[name], value)
    assert cure.recipe["lr"] < 30
    assert cure.code.prepare(net) is net
    assert all(torch.equal(start[n], value) for n, value in net.state_dict().items())
    assert cure.code.make_optimizer(net).param_groups[0]["lr"] == cure.recipe["lr"]


# How it ends where nothing is written but reports


def test_sound(folder: Path) -> None:
    ran = run("fix", "net.py:sound", *FAST, "-o", "cure", cwd=folder)
    assert ran.code == 0, ran.err
    assert files_in(folder / "cure") == REPORTS
    assert ran.said[-2:] == ["Nothing to change.", "Written to cure: report.html, report.json"]
    assert checked((folder / "cure" / "report.json").read_text())["verdict"] == "pass"


def test_no_cure(folder: Path) -> None:
    ran = run("fix", "net.py:incurable", *FAST, "-o", "cure", cwd=folder)
    assert ran.code == 1, ran.err
    assert files_in(folder / "cure") == REPORTS
    assert ran.said[-2] == "No cure was found: only the reports are written."


def test_made_up_data_prove_nothing(folder: Path) -> None:
    ran = run("fix", "net.py:without_data", *FAST, "-o", "cure", cwd=folder)
    assert ran.code == 3, ran.err
    assert files_in(folder / "cure") == REPORTS
    assert "cannot be shown to work on made-up data" in ran.said[-2]


def test_quiet(folder: Path) -> None:
    ran = run("fix", "net.py:sound", *FAST, "-q", "-o", "cure", cwd=folder)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert files_in(folder / "cure") == REPORTS


# The folder


def test_an_earlier_fix_is_replaced_with_force_only(folder: Path) -> None:
    cure = folder / "cure"
    cure.mkdir()
    assert run("fix", "net.py:sound", *FAST, "-o", "cure", cwd=folder).code == 0
    (cure / "model.safetensors").write_text("of an earlier fix")
    (cure / "mine.txt").write_text("mine")
    ran = run("fix", "net.py:sound", *FAST, "-o", "cure", cwd=folder)
    assert refused(ran) == "cure is not empty; choose another folder or add --force"
    ran = run("fix", "net.py:sound", *FAST, "-o", "cure/", "--force", cwd=folder)
    assert ran.code == 0, ran.err
    assert files_in(cure) == ["mine.txt", *REPORTS]


def refused(ran: Ran) -> str:
    """The one line of an error."""
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.said
    assert line.startswith("gradaudit: error: ")
    return line.removeprefix("gradaudit: error: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("net.py:sound",), "Missing option '-o' / '--output'"),
        (("-o", "cure"), "Missing argument 'MODEL'"),
        (("net.py:sound", "-o", "net.py"), "expected a folder; found a file"),
        (("net.py:sound", "-o", "net.py/cure"), "cannot write into net.py/cure"),
        (("net.py:sound", "-o", "no/where"), "no folder no; create it"),
        (("net.py:sound", "-o", "c" * 300), "cannot write into ccc"),
        (("net.py:sound", "-o", "."), ". is not empty; choose another folder or add --force"),
        (("net.py:sound", "-o", "cure", "--json", "r.json"), "No such option '--json'"),
        (("net.py:sound", "-o", "cure", "--no-html"), "No such option '--no-html'"),
        (("net.py:nothing", "-o", "cure"), "nothing"),
        (("net.py", "-o", "cure"), "net.py:name"),
        (("gone.pt", "-o", "cure"), "gone.pt"),
        (("w.safetensors", "-o", "cure"), "weights alone cannot be fixed"),
        (("net.py:sound", "-o", "cure", "--loss", "msee"), "did you mean 'mse'?"),
        (("net.py:sound", "-o", "cure", "--input", "float32[8]", "--data", "x.npy"), "x.npy"),
        (("w/model.safetensors", "-o", "w", "--force"), "w/model.safetensors would be replaced"),
        (
            ("w/model.safetensors", "--build", "w/fix.py:net", "-o", "w", "--force"),
            "w/model.safetensors would be replaced",
        ),
        (("w/fix.py:net", "-o", "w", "--force"), "w/fix.py would be replaced"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], words: str, folder: Path) -> None:
    (folder / "w").mkdir()
    (folder / "w" / "fix.py").write_text(NET)
    save_file({"0.weight": torch.ones(2, 2)}, folder / "w.safetensors")
    save_file({"0.weight": torch.ones(2, 2)}, folder / "w" / "model.safetensors")
    before = files_in(folder)
    assert words in refused(run("fix", *arguments, *FAST, cwd=folder))
    assert files_in(folder) == before


def test_a_directory_in_the_way(folder: Path) -> None:
    (folder / "cure" / "fix.py").mkdir(parents=True)
    ran = run("fix", "net.py:sound", *FAST, "-o", "cure", "--force", cwd=folder)
    assert refused(ran) == "cannot write cure/fix.py; found a directory"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o500)
    for place in ("closed", "closed/cure"):
        ran = run("fix", "net.py:sound", *FAST, "-o", place, cwd=folder)
        assert "no permission" in refused(ran)


def test_a_configured_report_is_not_the_folder(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(
        '[tool.gradaudit]\noutput = "c.html"\njson = "c.json"\nfail-on = "warn"\nseed = 7\n'
    )
    assert "Missing option" in refused(run("fix", "net.py:sound", cwd=folder))
    ran = run("fix", "net.py:sound", *FAST, "-o", "cure", cwd=folder)
    assert ran.code == 0, ran.err
    assert json.loads((folder / "cure" / "report.json").read_text())["seed"] == 7
    assert files_in(folder) == ["cure", "cure/report.html", "cure/report.json", "net.py",
                                "pyproject.toml"]  # fmt: skip


# All or nothing


def test_nothing_is_left_where_rendering_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradaudit.reports import json_report

    def raising(_: Any) -> str:
        raise ValueError("a report holds finite numbers")

    monkeypatch.delenv("GRADAUDIT_TRACEBACK", raising=False)
    monkeypatch.setattr(json_report, "render", raising)
    ran = run("fix", "net.py:sound", *FAST, "-o", "cure", cwd=folder)
    assert ran.code == 2
    assert "internal error: ValueError" in ran.err
    assert files_in(folder) == ["net.py"]


def test_time_up_leaves_nothing(folder: Path) -> None:
    ran = run("fix", "net.py:waiting", *FAST, "--timeout", "0.5", "-o", "cure", cwd=folder)
    assert ran.code == 2
    assert "gave up after 0.5 s" in ran.err
    assert files_in(folder) == ["net.py"]


# Shells start what runs in the background deaf to ^C, and its children inherit that.
LISTENING = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('gradaudit', run_name='__main__', alter_sys=True)"
)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupt_leaves_nothing(folder: Path) -> None:
    command = [sys.executable, "-c", LISTENING, "fix", "net.py:waiting", "-o", "cure"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "waiting" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "interrupted; nothing was written" in err
    assert files_in(folder) == ["net.py"]
