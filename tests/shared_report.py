"""Reports built of literals: one for every shape a renderer has to cope with.

``exploding`` has findings and a prescription, ``sound`` passes, ``weights_only`` could not measure
most things, ``hostile`` has names that try to escape, ``deep`` has thousands of stages,
``recurrent`` a gradient that is lost through time.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache

from gradaudit.records import (
    DataRow,
    Estimate,
    Finding,
    Forecast,
    GradientNorm,
    Limit,
    LossRow,
    Measurements,
    ModuleRow,
    NonFinite,
    NotMeasured,
    ParameterRow,
    Prescription,
    RateRange,
    Recipe,
    RecurrentRow,
    Rehearsal,
    Remedy,
    Report,
    SampleRow,
    StageRow,
    StateRow,
    SubjectRow,
    TrunkRow,
    WeightRow,
    Where,
)
from gradaudit.reports import html

GROWTH_MAX = Limit(1e3, "total gain (sum of squares)", "15 nets that were then trained")
GROWTH_MIN = Limit(1e-6, "total gain (sum of squares)", "15 nets that were then trained")
SETTINGS = {
    "data": "data.safetensors",
    "batch_size": None,
    "loss": "auto",
    "effort": "standard",
    "seed": 0,
    "device": "cpu",
    "threads": None,
    "trust": False,
    "select": (),
    "limits": {"growth_max": GROWTH_MAX, "growth_min": GROWTH_MIN},
}
ENVIRONMENT = {
    "python": "3.11.7",
    "torch": "2.13.0",
    "platform": "Linux",
    "threads": 2,
    "times": {"total": 12.84, "jacobian": 3.1},
}
INIT_CODE = """\
from torch import nn

for module in model.modules():
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight, gain=1.17)
        nn.init.zeros_(module.bias)
"""
CLIP_CODE = """\
# after loss.backward(), before optimizer.step()
torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=2.4)
"""
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
HOSTILE_CONTROL = "layer\x1b[31m.red\x00\u202eevil[bold red]$\\frac{1}{0}$"
LONG = "encoder." + ".".join(f"very_long_block_name_{i}" for i in range(12)) + ".weight"


def spread(value: float, share: float, unit: str) -> Estimate:
    """An estimate with a multiplicative interval of ``share`` to each side."""
    return Estimate(value, value / (1 + share), value * (1 + share), unit)


def wobble(index: int) -> float:
    """A fixed, uneven factor near one, so that charts do not look ruled."""
    return 1 + 0.12 * math.sin(2.3 * index) + 0.06 * math.cos(5.1 * index)


def stages(count: int, gain: float, *, names: str = "layers.{}") -> tuple[StageRow, ...]:
    """A chain of stages with gains around ``gain``, and an inlet and head that keep size."""
    values = [1.1, *(gain * wobble(i) for i in range(1, count - 1)), 0.9]
    norms = [0.5 + 0.5 * sum(math.log10(v) for v in values[i:]) for i in range(count)]
    return tuple(
        StageRow(
            index=i,
            name=names.format(2 * i),
            start="input" if i == 0 else names.format(2 * i - 1),
            to=names.format(2 * i + 1) if i < count - 1 else "output",
            modules=(names.format(2 * i), names.format(2 * i + 1)),
            parameters=(names.format(2 * i) + ".weight", names.format(2 * i) + ".bias"),
            role="inlet" if i == 0 else "head" if i == count - 1 else "interior",
            residual=False,
            backward_gain=spread(values[i], 0.04, "gain (sum of squares)"),
            forward_gain=spread(wobble(i + 7), 0.05, "gain (sum of squares)"),
            gsc=spread(1.05 * wobble(i + 3), 0.05, "GSC"),
            jacobian_norm_log10=Estimate(
                norms[i], norms[i] - 0.01 - 0.004 * (count - i), norms[i] + 0.04, "log10 norm"
            ),
            output_rms=0.7 * wobble(i + 1),
        )
        for i in range(count)
    )


def total_growth(chain: tuple[StageRow, ...]) -> float:
    """log10 of the product of gains behind the inlet."""
    return sum(math.log10(row.backward_gain.value) for row in chain[1:] if row.backward_gain)


def weights(
    count: int, size: float, *, names: str = "layers.{}.weight", wide: int = 128
) -> tuple[WeightRow, ...]:
    """Dense weights ``size`` times the norm of random entries."""
    return tuple(
        WeightRow(
            parameter=names.format(2 * i),
            module=names.format(2 * i).removesuffix(".weight"),
            kind="dense",
            shape=(wide, wide),
            spectral_norm=spread(2 * size * wobble(i), 0.0005, "operator norm"),
            stable_rank=41.7 * wobble(i),
            input_size=None,
            reshaped_norm=2 * size * wobble(i),
            spectral_radius=None,
            rms=0.088 * size,
            fan_in=wide,
            random_edge=2.0 * size if i % 7 else size,
            critical_edge=2.0,
            finite=True,
            identical_rows=False,
            initialization="unknown" if size > 1 else "Kaiming normal",
            type="Linear",
            activation="Tanh",
        )
        for i in range(count)
    )


def modules(count: int, saturated: float) -> tuple[ModuleRow, ...]:
    """Linear and Tanh calls in turn."""
    return tuple(
        ModuleRow(
            module=f"layers.{i}",
            call=0,
            type="Tanh" if i % 2 else "Linear",
            output_rms=0.8 * wobble(i),
            gradient_rms=1e-3 * 1.17 ** (count - i),
            dead_fraction=0.0 if i % 2 else None,
            saturated_fraction=min(1.0, saturated * wobble(i)) if i % 2 else None,
            units=128,
        )
        for i in range(count)
    )


def parameters(count: int, growth: float) -> tuple[ParameterRow, ...]:
    """A weight and a bias per layer, gradients growing towards the input."""
    return tuple(
        ParameterRow(
            parameter=f"layers.{2 * (i // 2)}.{'bias' if i % 2 else 'weight'}",
            trainable=True,
            connected=True,
            weight_norm=0.22 if i % 2 else 11.3 * wobble(i),
            gradient_norm=spread(0.05 * growth ** ((count - i) / 2), 0.1, "L2 norm"),
            update_ratio=spread(4e-4 * growth ** ((count - i) / 2), 0.1, "||step|| / ||weight||"),
        )
        for i in range(count)
    )


def exploding() -> Report:
    """A 30-layer tanh net with weights of variance 3 / fan_in, and what follows from it."""
    chain = stages(31, 1.34)
    total = total_growth(chain)
    unit = f"log10 of {GROWTH_MAX.unit}"
    measured = Estimate(total, total - 0.12, total + 0.12, unit)
    remedies = (
        Remedy(
            "init-glorot",
            "initialization",
            "Initialize the 30 Linear layers with Glorot, gain 1.17",
            {
                "scheme": {f"layers.{2 * i}.weight": "Glorot" for i in range(30)},
                "std": {f"layers.{2 * i}.weight": 0.1034 for i in range(30)},
                "gain": 1.17,
            },
            INIT_CODE,
            "changes start values",
            ("GA101", "GA105"),
        ),
        Remedy(
            "clip-2.4",
            "clipping",
            "Clip the gradient norm at 2.4",
            {"max_norm": 2.4, "expected_clip_rate": 0.08},
            CLIP_CODE,
            "recipe only",
            ("GA112",),
        ),
    )
    return Report(
        version="0.1.0",
        seed=0,
        settings=SETTINGS,
        environment=ENVIRONMENT,
        subject=SubjectRow(
            "samples/exploding_mlp.py:subject", "code", "9f2c" * 16, 496_778, 62, 31, "Sequential"
        ),
        recipe=Recipe(optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, steps=1000),
        verdict="fail",
        cause=(
            "This model will not train: its gradient grows "
            f"{10**total:.0f}-fold between the output and the first hidden layer, because the "
            "weights of all 30 tanh layers are 1.3 times too large."
        ),
        forecast=Forecast("diverges", 0.93, ("GA101", "GA105")),
        measurements=Measurements(
            sample=SampleRow("given", "given", 4, 64, "4 batches of 64 from data.safetensors"),
            recipe=Recipe(optimizer="sgd", lr=0.1),
            state=StateRow("fresh", "weights look like N(0, 3 / fan_in)"),
            weights=weights(31, 1.73),
            stages=chain,
            trunk=TrunkRow(
                True,
                spread(1.34, 0.01, "gain per stage"),
                Estimate(total, total - 0.12, total + 0.12, "log10 gain"),
                6,
                spread(2.9, 0.1, "GSC"),
                31,
            ),
            modules=modules(61, 0.34),
            parameters=parameters(62, 1.16),
            gradient_norm=GradientNorm(4, 4.83, 6.02, 6.4, 6.61, "light"),
            rehearsal=Rehearsal(
                steps=20,
                losses=tuple(2.61 + 0.06 * i + 0.5 * math.sin(1.7 * i) for i in range(20)),
                rates=(0.1,) * 20,
                clip_rate=None,
                first_nonfinite=None,
                outcome="diverges",
                optimizer="sgd",
                prescribed=False,
                gradient_norms=tuple(4.8 + 3 * abs(math.sin(1.3 * i)) for i in range(20)),
                beats_constant=False,
                rescued_by_rate=0.003,
            ),
            rate_range=RateRange(
                "sgd",
                tuple(10 ** (-5 + 0.35 * i) for i in range(16)),
                tuple(2.6 - 0.04 * i + 1.2e-4 * 3 ** max(0, i - 6) for i in range(16)),
                0.0032,
                0.0011,
            ),
            loss=LossRow(
                "cross_entropy",
                "the target holds class indices and the output has one more dimension",
                spread(2.61, 0.03, "nats"),
                2.27,
                math.log(10),
                10,
            ),
            data=(
                DataRow("input", "input", "float32", (64, 128), 0.003, 1.0, 1.0, -4.1, 4.2),
                DataRow("target", "target", "int64", (64,), 4.4, 2.9, 5.3, 0, 9),
            ),
        ),
        findings=(
            Finding(
                "GA101",
                "exploding-jacobian",
                "fail",
                Where(module="layers.12", stage=6),
                measured,
                Limit(3.0, unit, GROWTH_MAX.source),
                "The gradient's sum of squares is multiplied by this much from the output back to "
                "the first hidden layer, 1.34 per stage, most at stage 6 (`layers.12`). The first "
                "layers take steps that are far too large while the last ones take the right ones.",
                ("init-glorot",),
            ),
            Finding(
                "GA105",
                "poor-initialization",
                "warn",
                Where(parameter="layers.14.weight"),
                spread(3.0, 0.01, "variance x fan_in"),
                Limit(1.76, "variance x fan_in", "mean field theory, Schoenholz et al. 2017"),
                "tanh layers keep a gradient's size at variance 1.76 / fan_in; these have 3.",
                ("init-glorot",),
            ),
            Finding(
                "GA107",
                "saturated-units",
                "note",
                Where(module="layers.15"),
                spread(0.36, 0.05, "share of outputs"),
                Limit(0.5, "share of outputs", "slope below 2% of its peak"),
                "A third of this layer's outputs sit where tanh is flat.",
            ),
            Finding(
                "GA112",
                "clip-missing",
                "warn",
                Where(),
                Estimate(6.61, 6.0, None, "max gradient norm"),
                Limit(2.4, "gradient norm", "Pascanu et al. 2013"),
                "The recipe clips nothing, and one batch in ten has a gradient 1.4 times the "
                "median.",
                ("clip-2.4",),
            ),
        ),
        prescription=Prescription(
            remedies,
            {"optimizer": "sgd", "lr": 0.003, "momentum": None, "clip_norm": 2.4},
        ),
        not_measured=(
            NotMeasured("curvature", "the whole model", "the standard effort does not measure it"),
            NotMeasured("noise scale", "the whole model", "4 batches; 8 are needed"),
        ),
        notes=("The loss was chosen from the target: cross_entropy.",),
    )


def sound() -> Report:
    """The same net at the critical point: nothing to say."""
    base = exploding()
    chain = stages(31, 1.0)
    measurements = dataclasses.replace(
        base.measurements,
        weights=weights(31, 1.0),
        stages=chain,
        trunk=TrunkRow(
            True,
            spread(1.0, 0.01, "gain per stage"),
            Estimate(total_growth(chain), -0.2, 0.2, "log10 gain"),
            7,
            spread(1.1, 0.1, "GSC"),
            31,
        ),
        parameters=parameters(62, 1.0),
        rehearsal=Rehearsal(
            20,
            tuple(0.6 + 1.9 * 0.86**i for i in range(20)),
            (0.1,) * 20,
            Estimate(0.1, 0.02, 0.3, "share of steps"),
            None,
            "falls",
            "sgd",
            False,
            tuple(2.4 * 0.95**i for i in range(20)),
            True,
        ),
    )
    return dataclasses.replace(
        base,
        verdict="pass",
        cause="This model trains: gradients keep their size through all 31 stages and the loss "
        "fell from 2.5 to 0.71 in 20 steps of your recipe.",
        forecast=Forecast("trains", 0.96),
        measurements=measurements,
        recipe=dataclasses.replace(base.recipe, clip_norm=2.0),
        findings=(),
        prescription=None,
        not_measured=(),
    )


def weights_only() -> Report:
    """A state dict without code: weights and nothing else."""
    base = exploding()
    return dataclasses.replace(
        base,
        subject=SubjectRow("model.safetensors", "safetensors", "77aa" * 16, 496_778, 0, 0),
        recipe=Recipe(),
        verdict="inconclusive",
        cause="Nothing is wrong with the weights alone; whether this trains cannot be told "
        "without the code that builds the model: name it with --build.",
        forecast=Forecast("unknown", 0.0),
        measurements=Measurements(
            sample=SampleRow("none", "none", 0, None, "no data: weights only"),
            recipe=Recipe(),
            state=StateRow("fresh", "weights look like Kaiming normal"),
            weights=weights(31, 1.0),
        ),
        findings=(),
        prescription=None,
        not_measured=(
            NotMeasured("Jacobian growth", "the whole model", "there is no code to run"),
            NotMeasured("gradients", "the whole model", "there is no code to run"),
            NotMeasured("rehearsal", "the whole model", "there is no code to run"),
        ),
        notes=(),
    )


def made_up() -> Report:
    """The exploding net on a sample the audit invented."""
    base = exploding()
    sample = SampleRow("made up", "made up", 1, 8, "float32[8,128] of normal numbers")
    return dataclasses.replace(
        base,
        measurements=dataclasses.replace(base.measurements, sample=sample),
        forecast=Forecast("unknown", 0.0),
        notes=("The sample is made up: float32[8,128]. Name your own with --data.",),
    )


def recurrent() -> Report:
    """A vanilla RNN whose gradient is lost through time, one step of it to exactly zero."""
    base = exploding()
    lost = RecurrentRow(
        "rnn",
        "RNN",
        40,
        tuple((t, 0.8 * 0.55 ** (39 - t) if t > 5 else 0.0) for t in range(40)),
        Estimate(-18.9, -19.4, -18.4, "log10 gain over time"),
        spread(0.3025, 0.02, "gain per step"),
        8,
        0.61,
    )
    kept = dataclasses.replace(
        lost,
        module="decoder",
        profile=tuple((t, 0.8 * 0.9 ** (39 - t)) for t in range(40)),
        horizon=36,
    )
    return dataclasses.replace(
        base,
        measurements=dataclasses.replace(
            base.measurements,
            stages=(),
            trunk=TrunkRow(False, None, None, None, None, 0, "a loop over time has no trunk"),
            recurrent=(lost, kept),
            nonfinite=(NonFinite("backward", "TanhBackward0", "rnn", 0),),
            rehearsal=dataclasses.replace(
                base.measurements.rehearsal or Rehearsal(0, (), (), None, None, "flat", "", True),
                losses=(2.3, 2.9, 4.4, 120.0, 9e5),
                gradient_norms=(2.0, 30.0, 900.0, 4e6, 1e12),
                first_nonfinite=NonFinite("loss", "MseLoss", "loss", 0, step=5),
            ),
        ),
    )


def hostile() -> Report:
    """Names that are markup, escape sequences, formulas, or longer than any screen."""
    base = exploding()
    names = (HOSTILE, HOSTILE_CONTROL, LONG, "块.層.\u0434\u043b", "a&b<c")
    measurements = base.measurements
    return dataclasses.replace(
        base,
        subject=dataclasses.replace(base.subject, source=HOSTILE, name=HOSTILE_CONTROL),
        cause=f"It diverges at {HOSTILE} and {HOSTILE_CONTROL}.",
        measurements=dataclasses.replace(
            measurements,
            stages=tuple(
                dataclasses.replace(row, name=names[i % 5], modules=(names[i % 5],))
                for i, row in enumerate(measurements.stages)
            ),
            weights=tuple(
                dataclasses.replace(row, parameter=names[i % 5], initialization=HOSTILE)
                for i, row in enumerate(measurements.weights)
            ),
            modules=tuple(
                dataclasses.replace(row, module=names[i % 5], type=HOSTILE)
                for i, row in enumerate(measurements.modules)
            ),
            parameters=tuple(
                dataclasses.replace(row, parameter=names[i % 5])
                for i, row in enumerate(measurements.parameters)
            ),
            recurrent=tuple(
                dataclasses.replace(row, module=HOSTILE)
                for row in recurrent().measurements.recurrent
            ),
        ),
        findings=tuple(
            dataclasses.replace(f, where=Where(module=names[i % 5]), why=f"{HOSTILE} {LONG}")
            for i, f in enumerate(base.findings)
        ),
        prescription=Prescription(
            (
                Remedy(
                    'x" onclick="alert(3)',
                    HOSTILE,
                    f"Mend {HOSTILE}",
                    {HOSTILE: HOSTILE},
                    f"# {HOSTILE}\n# </code></pre><script>alert(4)</script>\n",
                    "recipe only",
                    (HOSTILE,),
                ),
            ),
            {HOSTILE: None},
        ),
        not_measured=(NotMeasured(HOSTILE, HOSTILE_CONTROL, LONG),),
        notes=(HOSTILE,),
        settings={HOSTILE: HOSTILE_CONTROL},
        environment={HOSTILE: "\ud800"},
    )


def deep(count: int = 2000) -> Report:
    """A very long chain with a finding in every layer."""
    base = exploding()
    chain = stages(count, 1.003)
    finding = base.findings[1]
    return dataclasses.replace(
        base,
        subject=dataclasses.replace(base.subject, stages=count),
        measurements=dataclasses.replace(
            base.measurements,
            stages=chain,
            weights=weights(count, 1.2),
            modules=modules(2 * count, 0.2),
            parameters=parameters(2 * count, 1.0),
        ),
        findings=tuple(
            dataclasses.replace(finding, where=Where(parameter=f"layers.{2 * i}.weight", stage=i))
            for i in range(count)
        ),
    )


@cache
def page(name: str) -> str:
    """The HTML page of the report of that name; drawing charts is the slow part of the tests."""
    report: Report = globals()[name]()
    return html.render(report)


def every() -> dict[str, Report]:
    """All of them by name."""
    return {
        "exploding": exploding(),
        "sound": sound(),
        "weights_only": weights_only(),
        "made_up": made_up(),
        "recurrent": recurrent(),
        "hostile": hostile(),
    }
