"""Reports built of literals: one for every shape a renderer has to cope with.

``exploding`` has findings and a prescription, ``sound`` passes, ``weights_only`` could not measure
most things, ``hostile`` has names that try to escape, ``deep`` has thousands of stages,
``recurrent`` a gradient that is lost through time, ``transformer`` has everything measured,
``uncured`` is an ``exploding`` whose search for a cure came to nothing.
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
    NonFinite,
    NotMeasured,
    Precision,
    Prescription,
    RateRange,
    Recipe,
    Rehearsal,
    Remedy,
    Report,
    SampleRow,
    StateRow,
    SubjectRow,
    Trial,
    TrunkRow,
    Where,
)
from gradaudit.reports import html
from tests import shared_proof
from tests.shared_rows import (
    adam_curvature,
    attention,
    gated,
    gpt_modules,
    gpt_weights,
    halves,
    head_norms,
    kept_in_time,
    lost_in_time,
    modules,
    norms_over_batches,
    parameters,
    spread,
    stages,
    total_growth,
    weights,
)

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
                top_singular_values=tuple(
                    spread(31.0 / (k + 1), 0.02, "not squared") for k in range(3)
                ),
            ),
            modules=modules(61, 0.34),
            parameters=parameters(62, 1.16),
            gradient_norm=GradientNorm(
                4,
                4.83,
                6.02,
                6.4,
                6.61,
                "unresolved",
                "4 batches; 29 are needed for the 90th percentile",
                clip_threshold=9.66,
                clip_basis="twice the median: a heuristic, for want of batches",
                norms=(4.31, 6.61, 4.83, 4.83),
            ),
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
            outlook=shared_proof.outlook(),
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
            shared_proof.proof([row.name for row in chain]),
            shared_proof.tried(),
        ),
        not_measured=(
            NotMeasured("curvature", "the whole model", "the standard effort does not measure it"),
            NotMeasured("noise scale", "the whole model", "4 batches; 8 are needed"),
        ),
        notes=("The loss was chosen from the target: cross_entropy.",),
    )


def uncured() -> Report:
    """The exploding net, and nothing that was tried makes it train."""
    base = exploding()
    return dataclasses.replace(base, prescription=Prescription((), tried=shared_proof.failed()))


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
        outlook=shared_proof.whole(),
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
    assert base.prescription
    return dataclasses.replace(
        base,
        prescription=Prescription(base.prescription.remedies, base.prescription.recipe),
        measurements=dataclasses.replace(base.measurements, sample=sample),
        forecast=Forecast("unknown", 0.0),
        notes=("MADE-UP DATA: random float32[8,128]. --data gives your own.",),
    )


def recurrent() -> Report:
    """A vanilla RNN whose gradient is lost through time, one step of it to exactly zero."""
    base = exploding()
    return dataclasses.replace(
        base,
        measurements=dataclasses.replace(
            base.measurements,
            stages=(),
            trunk=TrunkRow(False, None, None, None, None, why="a loop over time has no trunk"),
            recurrent=(lost_in_time(), kept_in_time()),
            weights=gated("decoder", 64),
            nonfinite=(NonFinite("backward", "TanhBackward0", "rnn", 0, file="model.py", line=41),),
            rehearsal=dataclasses.replace(
                base.measurements.rehearsal or Rehearsal(0, (), (), None, None, "flat", "", True),
                losses=(2.3, 2.9, 4.4, 120.0, 9e5),
                gradient_norms=(2.0, 30.0, 900.0, 4e6, 1e12),
                first_nonfinite=NonFinite(
                    "loss", "mse_loss", "loss", 0, step=5, file="train.py", line=12
                ),
            ),
        ),
    )


def transformer(layers: int = 4, heads: int = 4, width: int = 256) -> Report:
    """A sound transformer in fp16 with everything measured; one activation does not fit."""
    base = sound()
    recipe = Recipe(
        optimizer="adamw", lr=3e-4, betas=(0.9, 0.95), eps=1e-8, clip_norm=1.0, precision="fp16"
    )
    rehearsal = base.measurements.rehearsal
    assert rehearsal
    chain = stages(layers + 2, 0.94, names="transformer.h.{}")
    return dataclasses.replace(
        base,
        subject=SubjectRow(
            "gpt.py:subject", "code", "c0de" * 16, 124_439_808, 164, layers + 2, "GPT2LMHeadModel"
        ),
        recipe=recipe,
        verdict="warn",
        cause="This model trains in float32; in your fp16 the output of "
        "`transformer.h.11.mlp.c_proj` overflows.",
        forecast=Forecast("trains", 0.81, ("GA131",)),
        measurements=dataclasses.replace(
            base.measurements,
            sample=SampleRow("given", "in the model", 60, 8, "60 batches of 8 from corpus.py"),
            recipe=recipe,
            weights=gpt_weights(layers, width),
            stages=chain,
            modules=gpt_modules(layers, width),
            parameters=tuple(
                row
                for i in range(layers)
                for row in parameters(12, 1.0, names=f"transformer.h.{i}.")
            ),
            curvature=adam_curvature(),
            gradient_norm=norms_over_batches(),
            noise_scale=Estimate(310.0, 190.0, 720.0, "samples"),
            attention=attention(layers, heads),
            attention_heads=head_norms(layers, heads),
            precision=halves(),
            rehearsal=dataclasses.replace(
                rehearsal,
                optimizer="adamw",
                rates=(3e-4,) * 20,
                gradient_norms=tuple(2.1 + 1.4 * abs(math.sin(1.9 * i)) for i in range(20)),
            ),
            rate_range=RateRange(
                "adamw",
                tuple(10 ** (-6 + 0.3 * i) for i in range(16)),
                tuple(10.9 - 0.3 * i + 1e-3 * 3 ** max(0, i - 8) for i in range(16)),
                0.0042,
                0.0009,
            ),
        ),
        findings=(
            Finding(
                "GA131",
                "half-precision-overflow",
                "warn",
                Where(module="transformer.h.11.mlp.c_proj", file="gpt.py", line=88),
                Estimate.exact(81_300.0, "largest |activation|"),
                Limit(65_504.0, "largest |activation|", "IEEE 754 binary16"),
                "The largest output of this module is infinite in fp16, and so is the loss.",
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
            attention=tuple(
                dataclasses.replace(row, module=names[i % 5])
                for i, row in enumerate(attention(5, 2))
            ),
            attention_heads=tuple(
                dataclasses.replace(row, module=names[i % 5])
                for i, row in enumerate(head_norms(5, 1))
            ),
            curvature=dataclasses.replace(adam_curvature(), rule=HOSTILE, optimizer=HOSTILE),
            gradient_norm=dataclasses.replace(
                norms_over_batches(), tail=HOSTILE, tail_why=HOSTILE_CONTROL, clip_basis=HOSTILE
            ),
            precision=Precision(
                HOSTILE,
                None,
                (
                    dataclasses.replace(
                        halves().formats[0],
                        largest_activation_at=LONG,
                        overflows_in=names,
                    ),
                ),
            ),
            nonfinite=(NonFinite("forward", HOSTILE, HOSTILE_CONTROL, 1, file=HOSTILE, line=3),),
            outlook=shared_proof.outlook(
                Trial(HOSTILE, 0.1, 3, (3.0, 2e38), 3.0, 2e38, 3.0, 3, settled=HOSTILE_CONTROL)
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
            {HOSTILE: None, "precision": HOSTILE},
            *shared_proof.hostile(names),
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
    return html.render(report, ())


def every() -> dict[str, Report]:
    """All of them by name."""
    return {
        "exploding": exploding(),
        "uncured": uncured(),
        "sound": sound(),
        "weights_only": weights_only(),
        "made_up": made_up(),
        "recurrent": recurrent(),
        "transformer": transformer(),
        "hostile": hostile(),
    }
