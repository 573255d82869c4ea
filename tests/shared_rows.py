"""Rows of measurements as literals, for the reports in ``shared_report``."""

from __future__ import annotations

import math

from gradaudit.records import (
    AttentionRow,
    Curvature,
    Estimate,
    GradientNorm,
    HalfRow,
    HeadRow,
    ModuleRow,
    ParameterRow,
    Precision,
    RecurrentRow,
    StageRow,
    WeightPart,
    WeightRow,
)

GATES = ("input", "forget", "cell", "output")


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
            top_singular_values=tuple(
                spread(2.9 * wobble(i) / (k + 1), 0.01, "not squared") for k in range(3)
            )
            if i == count // 5
            else (),
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
            folded_norm=spread(1.4 * size * wobble(i), 0.0005, "operator norm") if i == 3 else None,
            folded_with="layers.6.norm" if i == 3 else "",
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
            effective_rank=58.0 * (1 - 0.4 * i / count) * wobble(i),
            rank_limit=64,
            sample_correlation=0.02 * wobble(i) + 0.3 * i / count,
        )
        for i in range(count)
    )


def parameters(count: int, growth: float, *, names: str = "layers.") -> tuple[ParameterRow, ...]:
    """A weight and a bias per layer, gradients growing towards the input."""
    return tuple(
        ParameterRow(
            parameter=f"{names}{2 * (i // 2)}.{'bias' if i % 2 else 'weight'}",
            trainable=True,
            connected=True,
            weight_norm=0.22 if i % 2 else 11.3 * wobble(i),
            gradient_norm=spread(0.05 * growth ** ((count - i) / 2), 0.1, "L2 norm"),
            update_ratio=spread(4e-4 * growth ** ((count - i) / 2), 0.1, "||step|| / ||weight||"),
        )
        for i in range(count)
    )


def gated(module: str, width: int) -> tuple[WeightRow, ...]:
    """The two weights of an LSTM layer, gate by gate."""
    return tuple(
        WeightRow(
            parameter=f"{module}.weight_{kind}_l0",
            module=module,
            kind="recurrent",
            shape=(4 * width, width),
            spectral_norm=spread(2.31, 0.0004, "operator norm"),
            stable_rank=38.1,
            input_size=None,
            reshaped_norm=2.31,
            spectral_radius=None,
            rms=0.072,
            fan_in=width,
            random_edge=2.28,
            critical_edge=3.0,
            finite=True,
            identical_rows=False,
            initialization="torch's default",
            type="LSTM",
            parts=tuple(
                WeightPart(
                    gate,
                    spread(1.16 * wobble(i), 0.0004, "operator norm"),
                    21.4 * wobble(i),
                    0.58 * wobble(i + 2) if kind == "hh" else None,
                )
                for i, gate in enumerate(GATES)
            ),
        )
        for kind in ("ih", "hh")
    )


def gpt_weights(layers: int, width: int) -> tuple[WeightRow, ...]:
    """The weights of a transformer of GPT-2's shape; the fused one in its three parts."""
    shapes = {
        "attn.c_attn": (width, 3 * width),
        "attn.c_proj": (width, width),
        "mlp.c_fc": (width, 4 * width),
        "mlp.c_proj": (4 * width, width),
    }
    blocks = [(f"transformer.h.{i}.{name}", s) for i in range(layers) for name, s in shapes.items()]
    found = [("transformer.wte", (50_257, width)), ("transformer.wpe", (1024, width)), *blocks]
    return tuple(
        WeightRow(
            parameter=f"{module}.weight",
            module=module,
            kind="embedding" if i < 2 else "dense",
            shape=shape,
            spectral_norm=spread(0.02 * sum(map(math.sqrt, shape)) * wobble(i), 2e-4, "norm"),
            stable_rank=192.4 * wobble(i),
            input_size=None,
            reshaped_norm=0.02 * sum(map(math.sqrt, shape)) * wobble(i),
            spectral_radius=None,
            rms=0.02,
            fan_in=shape[0],
            random_edge=0.02 * sum(map(math.sqrt, shape)),
            critical_edge=1 + math.sqrt(shape[1] / shape[0]),
            finite=True,
            identical_rows=False,
            initialization="normal, std 0.02",
            type="Conv1D",
            parts=tuple(
                WeightPart(part, spread(1.11 * wobble(i + k), 3e-4, "norm"), 187.0, None)
                for k, part in enumerate(("query", "key", "value"))
            )
            if module.endswith("c_attn")
            else (),
        )
        for i, (module, shape) in enumerate(found)
    )


def gpt_modules(layers: int, width: int) -> tuple[ModuleRow, ...]:
    """Calls of a transformer whose samples grow alike with depth."""
    names = ("ln_1", "attn", "ln_2", "mlp.c_fc", "mlp.act", "mlp.c_proj")
    calls = [(f"transformer.h.{i}.{name}", i / layers) for i in range(layers) for name in names]
    return tuple(
        ModuleRow(
            module=module,
            call=0,
            type=module.rpartition(".")[2],
            output_rms=(1 + 0.4 * depth) * wobble(i),
            gradient_rms=2e-4 * wobble(i),
            dead_fraction=0.01 if module.endswith("act") else None,
            units=width,
            effective_rank=61.0 - 22.0 * depth * wobble(i),
            rank_limit=64,
            sample_correlation=min(0.99, 0.04 + 0.5 * depth * wobble(i)),
        )
        for i, (module, depth) in enumerate(calls)
    )


def attention(layers: int, heads: int) -> tuple[AttentionRow, ...]:
    """Causal attention near its start: wide, one head narrower than the rest."""
    return tuple(
        AttentionRow(
            module=f"transformer.h.{i}.attn",
            call=0,
            heads=heads,
            queries=64,
            keys=64,
            entropy=Estimate(0.97 - 0.02 * i, 0.96 - 0.02 * i, 0.98 - 0.02 * i, "of ln(keys)"),
            lowest_head=i % heads,
            lowest_entropy=0.9 - 0.04 * i,
            masked_queries=0,
            largest_logit=2.1 + 0.9 * i,
        )
        for i in range(layers)
    )


def head_norms(layers: int, heads: int) -> tuple[HeadRow, ...]:
    """QK and OV norms, the last layer's last head far above the rest."""
    return tuple(
        HeadRow(
            f"transformer.h.{i}.attn",
            head,
            spread(
                0.15 * wobble(i + 3 * head) * (9 if i == head == layers - 1 else 1), 3e-4, "norm"
            ),
            spread(1.02 * wobble(2 * i + head), 3e-4, "norm"),
        )
        for i in range(layers)
        for head in range(heads)
    )


def adam_curvature() -> Curvature:
    """A transformer's curvature as AdamW at 3e-4 feels it."""
    return Curvature(
        sharpness=Estimate(38.2, 37.9, 39.4, "loss / parameter²"),
        preconditioned_sharpness=Estimate(5210.0, 5190.0, 5330.0, "1 / rate"),
        ceiling=Estimate.exact(126_667.0, "1 / rate"),
        rate_ceiling=Estimate(0.0073, 0.0071, 0.0074, "learning rate"),
        rule="(2 + 2 beta1) / ((1 - beta1) lr)",
        optimizer="adamw",
        products=8,
        samples=4,
        of_batch=8,
        lowest=Estimate(-4.1, -4.4, None, "loss / parameter²"),
    )


def norms_over_batches() -> GradientNorm:
    """Enough batches for a tail and a clip, with one outlier."""
    return GradientNorm(
        batches=60,
        median=1.92,
        p90=2.71,
        p95=3.3,
        max=9.1,
        tail="heavy",
        tail_why="the largest of 60 norms is 4.7 times the median; Hill's index is below 4",
        tail_index=Estimate(2.6, 1.7, 3.9, "Hill's alpha"),
        clip_threshold=3.3,
        clip_basis="upper tolerance limit of the 95th percentile, 60 batches",
        clip_rate=Estimate(0.05, 0.01, 0.14, "share of steps"),
        norms=(*(1.1 + 0.029 * (i * 23 % 57) for i in range(57)), 2.9, 3.3, 9.1),
    )


def halves() -> Precision:
    """An activation beyond fp16, and gradients that need a loss scale."""
    return Precision(
        "fp16",
        32_768.0,
        (
            HalfRow(
                "fp16",
                81_300.0,
                "transformer.h.11.mlp.c_proj",
                ("transformer.h.11.mlp.c_proj",),
                0.118,
                Estimate(0.131, 0.128, 0.134, "share of nonzero gradients"),
                Estimate(2e-4, 1e-4, 4e-4, "share of nonzero gradients"),
                Estimate(0.62, 0.61, 0.63, "share of weights"),
                True,
                "addmm",
                True,
                "transformer.h.0.attn",
            ),
            HalfRow(
                "bf16",
                81_300.0,
                "transformer.h.11.mlp.c_proj",
                (),
                0.118,
                Estimate.exact(0.0, "share of nonzero gradients"),
                None,
                Estimate(0.93, 0.92, 0.94, "share of weights"),
                False,
                "addmm",
            ),
        ),
    )


def lost_in_time() -> RecurrentRow:
    """A vanilla RNN whose gradient is lost on the way, the first steps of it to exactly zero."""
    return RecurrentRow(
        "rnn",
        "RNN",
        40,
        tuple((t, 0.8 * 0.55 ** (39 - t) if t > 5 else 0.0) for t in range(40)),
        Estimate(-18.9, -19.4, -18.4, "log10 gain over time"),
        spread(0.3025, 0.02, "gain per step"),
        8,
        0.61,
        lyapunov=tuple(
            Estimate(-0.598 - 0.21 * i, -0.61 - 0.22 * i, -0.585 - 0.2 * i, "per step, natural log")
            for i in range(6)
        ),
        growth_by_length=tuple(
            (steps, Estimate(-0.473 * steps, -0.49 * steps, -0.46 * steps, "log10 gain over time"))
            for steps in (10, 20, 40)
        ),
    )


def kept_in_time() -> RecurrentRow:
    """An LSTM that keeps the gradient, on sequences of different lengths."""
    return RecurrentRow(
        "decoder",
        "LSTM",
        40,
        tuple((t, 0.8 * 0.9 ** (39 - t)) for t in range(40)),
        Estimate(-3.57, -3.7, -3.44, "log10 gain over time"),
        spread(0.81, 0.02, "gain per step"),
        36,
        None,
        lyapunov=(Estimate(-0.11, -0.13, -0.09, "per step, natural log"),),
        forget_gate=Estimate(0.53, 0.52, 0.54, "mean gate"),
        packed=True,
    )
