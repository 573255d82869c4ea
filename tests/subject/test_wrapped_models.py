"""Models in memory that torch itself has made into something else: compiled, scripted, exported."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradaudit
from gradaudit.settings import Settings
from gradaudit.subject import borrowed

_QUICK = Settings(effort="quick", threads=1)


class _Doubled(nn.Module):  # what torch's own containers hold alone is not compiled
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * torch.relu(self.layer(x))


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5))


def _sample() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(32, 20), torch.randint(0, 5, (32,))


def test_a_model_compiled_in_place_is_run_as_python_and_stays_compiled() -> None:
    model, graphs = _Doubled(), []

    def backend(graph: nn.Module, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    model.compile(backend=backend)
    compiled = model._compiled_call_impl
    with borrowed(model) as lent:
        lent(_sample()[0])
    assert graphs == []
    assert model._compiled_call_impl is compiled
    model(_sample()[0])
    assert len(graphs) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_a_script_module_is_audited_without_its_insides(kind: str) -> None:
    model, (x, y) = _net(), _sample()
    script = torch.jit.script(model) if kind == "scripted" else torch.jit.trace(model, x)

    report = gradaudit.audit(script, (x, y), settings=_QUICK)

    assert report.verdict == "pass"
    assert report.measurements.rehearsal is not None
    assert any("torch's own runtime" in note for note in report.notes)
    assert any(gap.where == "the TorchScript module" for gap in report.not_measured)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("kind", ["program", "module"])
def test_an_exported_program_in_memory_is_refused_with_the_way_on(kind: str) -> None:
    program = torch.export.export(_net(), _sample()[:1])
    with pytest.raises(gradaudit.GradauditError, match=r"torch\.export\.save"):
        gradaudit.audit(
            program if kind == "program" else program.module(),  # type: ignore[arg-type]
            _sample(),
            settings=_QUICK,
        )
