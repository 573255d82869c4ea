"""What the field's tools say of a recipe: will it train?

``python -m tests.benchmarks.rivals [tune|held]`` prints the verdicts beside the trained labels.

Two tools are run as their documentation says (``pip install -e '.[bench]'``). Of the others, whose
code watches whole trainings or other frameworks, what is here are the published thresholds, put to
the start of training: the gradients of the first batch, and the recipe's first step. That is less
than those tools do, and what is left out is said with each. A loss or gradient that is not finite
counts as an alarm for all of them. ``True`` is "it will train", ``False`` "something is wrong", and
``None`` that the tool is not installed, or broke.
"""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks._start import Probe, Run, measure, probe
from tests.corpus import training
from tests.corpus.case import Case, Pair
from tests.corpus.catalogue import cases
from tests.corpus.outcomes import labels

REHEARSED = 30  # steps
LEARNED = 0.95  # mean of the last five losses, in units of the first: 5% is no accident


def rehearsal(case: Case) -> bool:
    """What a careful user does by hand: some steps of the recipe on one batch."""
    run, batch = Run(case), case.sample()[0]
    losses = [run.step(batch) for _ in range(REHEARSED)]
    if not all(math.isfinite(loss) for loss in losses):
        return False
    return sum(losses[-5:]) / 5 < losses[0] - (1 - LEARNED) * abs(losses[0])


@lru_cache(maxsize=1)
def _checked(case: Case) -> Any:
    """``check_model(model, inputs, targets, loss_fn=, optimizer=)``, all else at its defaults."""
    tool = _installed("torchtest2")
    if tool is None:
        return None
    model, (inputs, target) = case.model(0), _plain(case.sample()[0])
    given = {
        "loss_fn": partial(measure, case),
        "optimizer": training._optimizer(model, case.recipe, {}),
    }
    return _asked(lambda: tool.check_model(model, inputs, target, **given))


def torchtest2(case: Case) -> bool | None:
    """Whether nothing failed.

    It overfits the batch for 200 steps and fails where the loss falls by less than 0.1%; gradients
    beyond 1e3 of their parameter are a warning. It knows the rate, not clip, warm-up or precision.
    """
    report = _checked(case)
    return None if report is None else not report.failures


def torchtest2_strict(case: Case) -> bool | None:
    """Its ``strict=True``: warnings fail too, so the loss must fall to a tenth."""
    report = _checked(case)
    return None if report is None else not report.failures and not report.warnings


def syndset(case: Case) -> bool | None:
    """``audit(model, sample_input, sample_target, loss_fn)``, all at its defaults.

    It overfits the batch for 100 steps of its own AdamW at 1e-3 and fails where the loss keeps 80%
    of its start, or where gradients are not finite; its min/max gradient ratio below 1e-5, norms
    above 1e4, rank and dead units are warnings. It knows nothing of the recipe.
    """
    tool = _installed("syndset")
    if tool is None:
        return None
    model, (inputs, target) = case.model(0), _plain(case.sample()[0])
    report = _asked(lambda: tool.audit(model, inputs, target, partial(measure, case)))
    return None if report is None else bool(report.is_healthy())


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _plain(batch: Pair) -> Pair:
    inputs, target = batch
    return (dict(inputs) if isinstance(inputs, Mapping) else inputs), target


def _asked(question: Callable[[], Any]) -> Any:
    """The tool's report; ``None`` where it broke: what they find wrong is in their reports."""
    torch.manual_seed(100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return question()
        except Exception:
            return None


def _idle(active: Tensor) -> float:
    """Share of units that are active on less than 1% of what they saw."""
    return float((active.float().mean(0) < 0.01).float().mean())


def sagemaker(_: Case, start: Probe) -> Iterable[bool]:
    """SageMaker Debugger's built-in rules at their defaults (AWS documentation).

    VanishingGradient, WeightUpdateRatio, PoorWeightInitialization (its variance ratio only),
    DeadRelu and SaturatedActivation.
    """
    weights = [weight for weight in start.weights.values() if weight.numel() > 1]
    variances = [float(weight.var()) for weight in weights]
    yield any(size < 1e-7 for size in start.sizes())
    yield any(not 1e-8 <= ratio <= 10 for ratio in start.ratios(least=1e-9))
    yield bool(variances) and max(variances) > 10 * min(variances)
    yield any(_idle(output > 0) > 0.5 for output in start.rectified)
    yield any(_idle(values.abs() < 9.4999) > 0.5 for values in start.squashed)


def autotrainer(_: Case, start: Probe) -> Iterable[bool]:
    """AutoTrainer (Zhang et al., ICSE 2021): beta 1e-3, 1e-4 and 70, gamma 0.7 of its monitor.

    The tool asks for these only after the accuracy stayed low. Its ratio is the first kernel's
    gradient norm over the last's in both directions. Embeddings, sparse in Keras, do not count.
    """
    dense = {name: g for name, g in start.gradients.items() if name not in start.tables}
    kernels = [float(dense[name].norm()) for name in start.weights if name in dense]
    if kernels:
        ratio = kernels[0] / max(kernels[-1], 1e-30)
        yield ratio < 1e-3 and kernels[0] < 1e-4
        yield ratio > 70
    zeros = sum(int((g == 0).sum()) for g in dense.values())
    yield bool(dense) and zeros >= 0.7 * sum(g.numel() for g in dense.values())


def thedeepchecker(_: Case, start: Probe) -> Iterable[bool]:
    """TheDeepChecker (Ben Braiek and Khomh, TOSEM 2023).

    Means of absolute gradients and updates, and layers of which half is dead: the 95th percentile
    of a unit's output is below 1e-5. The spread of activations is not held against a recipe.
    """
    yield any(not 1e-6 <= size <= 1e6 for size in start.sizes())
    yield any(not 1e-4 <= ratio <= 1e-1 for ratio in start.ratios(p=1))
    tops = [output.abs().quantile(0.95, 0) for output in start.rectified]
    yield any(float((top < 1e-5).float().mean()) > 0.5 for top in tops)


def umlaut(case: Case, _: Probe) -> Iterable[bool]:
    """UMLAUT (Schoop et al., CHI 2021): the learning rate, and inputs that are not normalised."""
    inputs = case.sample()[0][0]
    if isinstance(inputs, Mapping):
        inputs = tuple(inputs.values())
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    floats = [x for x in given if isinstance(x, Tensor) and x.is_floating_point()]
    yield not 1e-7 <= (case.recipe.lr or 1e-3) <= 0.01
    yield any(float(x.abs().max()) > 1 for x in floats)


def torch_audit(_: Case, start: Probe) -> Iterable[bool]:
    """torch-audit's TA102, ``max_grad_norm``: the global norm. There it is a warning."""
    yield start.norm > 100


def torchmortem(_: Case, start: Probe) -> Iterable[bool]:
    """torchmortem's gradient-flow and update-ratio detectors at their defaults.

    Its gradients are those by the outputs of the layers, the last one's in units of the first's.
    The tool looks at the second half of a training; updates of exactly nothing it passes over.
    """
    if len(start.flow) > 1:
        yield start.flow[-1] >= 100 * start.flow[0] and start.flow[-1] > 1e-30
    yield any(norm > 1000 for norm in start.flow)
    yield any(ratio > 0 and not 1e-5 <= ratio <= 1e-1 for ratio in start.ratios())


def _thresholds(rule: Callable[[Case, Probe], Iterable[bool]]) -> Callable[[Case], bool | None]:
    def say(case: Case) -> bool:
        start = probe(case)
        return start.finite and not any(rule(case, start))

    return say


RIVALS: Mapping[str, Callable[[Case], bool | None]] = {
    "rehearsal-30": rehearsal,
    "torchtest2": torchtest2,
    "torchtest2-strict": torchtest2_strict,
    "syndset": syndset,
    "sagemaker": _thresholds(sagemaker),
    "autotrainer": _thresholds(autotrainer),
    "thedeepchecker": _thresholds(thedeepchecker),
    "umlaut": _thresholds(umlaut),
    "torch-audit": _thresholds(torch_audit),
    "torchmortem": _thresholds(torchmortem),
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    half = sys.argv[1] if len(sys.argv) > 1 else "tune"
    signs = {True: "trains", False: "wrong", None: "-"}
    print(f"{'':32} {'label':10}", *(f"{name:17}" for name in RIVALS))
    for each in cases(half):
        said = [signs[rival(each)] for rival in RIVALS.values()]
        print(f"{each.name:32} {labels(half).get(each.name, '?'):10}", *(f"{s:17}" for s in said))
