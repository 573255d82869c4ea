"""Slow truths in float64 that share no code with the package: loops, and numpy's own SVD."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np


def top_singular_value(matrix: np.ndarray) -> float:
    """Largest singular value by a full SVD in float64."""
    return float(np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)[0])


def source_index(position: int, size: int, mode: str) -> int | None:
    """Input index behind padded position ``position`` (0 is the first entry), None for a zero."""
    if 0 <= position < size:
        return position
    if mode == "circular":
        return position % size
    if mode == "replicate":
        return min(max(position, 0), size - 1)
    if mode == "reflect":
        return -position if position < 0 else 2 * (size - 1) - position
    return None


def convolution_matrix(
    kernel: np.ndarray,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    groups: int = 1,
    mode: str = "zeros",
) -> np.ndarray:
    """The matrix of torch's convolution, one output position and tap at a time.

    ``kernel`` is (out, in / groups, *taps); padding is symmetric. Rows are flat outputs, columns
    flat inputs, channels first.
    """
    out_channels, in_per_group, *taps = kernel.shape
    in_channels = in_per_group * groups
    positions = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, padding, dilation, taps, stride, strict=True)
    ]
    matrix = np.zeros((out_channels, *positions, in_channels, *size))
    for place in itertools.product(*map(range, positions)):
        for tap in itertools.product(*map(range, taps)):
            read = [
                source_index(o * s + t * d - p, n, mode)
                for o, s, t, d, p, n in zip(
                    place, stride, tap, dilation, padding, size, strict=True
                )
            ]
            if None in read:
                continue
            for group in range(groups):
                out = slice(group * out_channels // groups, (group + 1) * out_channels // groups)
                inside = slice(group * in_per_group, (group + 1) * in_per_group)
                matrix[(out, *place, inside, *read)] += kernel[(out, slice(None), *tap)]
    return matrix.reshape(out_channels * int(np.prod(positions)), -1)


def transposed_convolution_matrix(
    kernel: np.ndarray,
    size: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> np.ndarray:
    """The matrix of torch's transposed convolution; ``kernel`` is (in, out / groups, *taps)."""
    in_channels, out_per_group, *taps = kernel.shape
    out_size = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(
            size, stride, padding, dilation, taps, output_padding, strict=True
        )
    ]
    matrix = np.zeros((out_per_group * groups, *out_size, in_channels, *size))
    for place in itertools.product(*map(range, size)):
        for tap in itertools.product(*map(range, taps)):
            write = [
                i * s + t * d - p
                for i, s, t, d, p in zip(place, stride, tap, dilation, padding, strict=True)
            ]
            if any(not 0 <= w < n for w, n in zip(write, out_size, strict=True)):
                continue
            for group in range(groups):
                inside = slice(group * in_channels // groups, (group + 1) * in_channels // groups)
                out = slice(group * out_per_group, (group + 1) * out_per_group)
                matrix[(out, *write, inside, *place)] += kernel[(inside, slice(None), *tap)].T
    return matrix.reshape(out_per_group * groups * int(np.prod(out_size)), -1)


# --- curvature


def dense_hessian(
    gradient: Callable[[np.ndarray], np.ndarray], at: np.ndarray, step: float = 1e-5
) -> np.ndarray:
    """The Hessian, a column at a time, by central differences of a float64 gradient.

    The error is of order step^2, or eps / step where that is more: 1e-10 either way.
    """
    columns = []
    for i in range(len(at)):
        move = np.zeros(len(at))
        move[i] = step
        columns.append((gradient(at + move) - gradient(at - move)) / (2 * step))
    matrix = np.stack(columns, axis=1)
    return (matrix + matrix.T) / 2


# --- attention, representations and units


def attention_entropies(
    query: np.ndarray, key: np.ndarray, allowed: np.ndarray, scale: float
) -> np.ndarray:
    """Entropy share of each query of one head; NaN where fewer than two keys are allowed.

    ``query`` is (queries, width), ``key`` (keys, width), ``allowed`` a mask (queries, keys).
    """
    shares = np.full(len(query), np.nan)
    for i, row in enumerate(query):
        keys = [j for j in range(len(key)) if allowed[i, j]]
        if len(keys) < 2:
            continue
        logits = [scale * float(np.dot(row, key[j])) for j in keys]
        weights = [math.exp(logit - max(logits)) for logit in logits]
        shares[i] = entropy([w / sum(weights) for w in weights]) / math.log(len(keys))
    return shares


def entropy(shares: Sequence[float]) -> float:
    """In nats; an empty share adds nothing."""
    return -sum(p * math.log(p) for p in shares if p > 0)


def effective_rank(outputs: np.ndarray) -> float:
    """``exp`` of the entropy of the covariance's normalised eigenvalues; ``outputs`` (n, units)."""
    rows = np.asarray(outputs, dtype=np.float64)
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    for row in rows:
        covariance += np.outer(row - rows.mean(axis=0), row - rows.mean(axis=0))
    values = [max(float(v), 0.0) for v in np.linalg.eigvalsh(covariance)]
    return math.exp(entropy([v / sum(values) for v in values]))


def mean_cosine(outputs: np.ndarray) -> float:
    """Mean cosine of the angle between two different rows."""
    found = []
    for a, b in itertools.combinations(np.asarray(outputs, dtype=np.float64), 2):
        found.append(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)))
    return sum(found) / len(found)


def dead_share(values: np.ndarray, tail: float) -> float:
    """Share of columns that never rise above ``tail``; ``values`` (places, units)."""
    asleep = [all(value <= tail for value in column) for column in np.asarray(values).T]
    return sum(asleep) / len(asleep)


# --- half precision, by exact rational arithmetic


def rounded_to_half(x: float, bits: int, lowest: int, highest: int) -> float:
    """``x`` to the nearest number of a binary format, ties to even; infinity beyond its range.

    The format has ``bits`` of significand, the smallest normal number 2^lowest and the largest
    exponent ``highest``; subnormal numbers keep the spacing of the smallest normal ones.
    """
    if x == 0:
        return 0.0
    size, sign = Fraction(abs(x)), 1.0 if x > 0 else -1.0
    exponent = lowest
    while size >= Fraction(2) ** (exponent + 1):
        exponent += 1
    spacing = Fraction(2) ** (exponent - bits + 1)
    steps, rest = divmod(size, spacing)
    if rest > spacing / 2 or (rest == spacing / 2 and steps % 2 == 1):
        steps += 1
    size = steps * spacing
    if size >= Fraction(2) ** (highest + 1):
        return sign * float("inf")
    return sign * float(size)


def to_fp16(x: float) -> float:
    """The nearest half-precision number (11 bits, 2^-14 to 2^15)."""
    return rounded_to_half(x, 11, -14, 15)


def to_bf16(x: float) -> float:
    """The nearest bfloat16 (8 bits, 2^-126 to 2^127)."""
    return rounded_to_half(x, 8, -126, 127)


def share_lost(entries: np.ndarray, round_entry: Callable[[float], float], scale: float) -> float:
    """Share of the nonzero entries which, times ``scale``, round to zero."""
    nonzero = [float(x) for x in np.ravel(entries) if x != 0]
    return sum(round_entry(scale * x) == 0 for x in nonzero) / len(nonzero)


# --- Lyapunov exponents


def lyapunov_spectrum(jacobians: Sequence[np.ndarray], burn_in: int = 0) -> np.ndarray:
    """All exponents of ``J_T ... J_1``, natural log per step, by Gram-Schmidt of a full frame."""
    size = len(jacobians[0])
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))[0]
    sums = np.zeros(size)
    for t, jacobian in enumerate(jacobians):
        vectors = np.asarray(jacobian, dtype=np.float64) @ frame
        for k in range(size):
            for j in range(k):
                vectors[:, k] -= (vectors[:, j] @ vectors[:, k]) * vectors[:, j]
            length = np.sqrt(vectors[:, k] @ vectors[:, k])
            vectors[:, k] /= length
            if t >= burn_in:
                sums[k] += np.log(length)
        frame = vectors
    return sums / (len(jacobians) - burn_in)


def numerical_jacobian(
    function: Callable[[np.ndarray], np.ndarray], point: np.ndarray, width: float = 1e-5
) -> np.ndarray:
    """``[outputs, inputs]`` by central differences of fourth order, one input at a time."""
    columns = []
    for unit in np.eye(len(point)):
        near = function(point + width * unit) - function(point - width * unit)
        far = function(point + 2 * width * unit) - function(point - 2 * width * unit)
        columns.append((8 * near - far) / (12 * width))
    return np.stack(columns, axis=1)


# --- gradient noise


def noise_scale(per_sample: np.ndarray) -> float:
    """tr(Sigma) / |G|^2 of a population, from one gradient a sample, ``[N, parameters]``."""
    gradients = np.asarray(per_sample, dtype=np.float64)
    mean = sum(gradients) / len(gradients)
    trace = sum(float((g - mean) @ (g - mean)) for g in gradients) / len(gradients)
    return trace / float(mean @ mean)


def unbiased_noise_scale(gradients: np.ndarray, size: int) -> float:
    """The same from K batches' mean gradients, over all pairs of different batches."""
    gradients = np.asarray(gradients, dtype=np.float64)
    pairs = list(itertools.combinations(range(len(gradients)), 2))
    signal = sum(float(gradients[i] @ gradients[j]) for i, j in pairs) / len(pairs)
    # each pair of batches estimates tr(Sigma) / size by half its squared distance
    noise = sum(float(np.sum((gradients[i] - gradients[j]) ** 2)) / 2 for i, j in pairs)
    return size * noise / len(pairs) / signal


def attention_head_norms(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, output: np.ndarray, *, heads: int
) -> list[tuple[float, float]]:
    """``||W_Q^T W_K|| / sqrt(d)`` and ``||W_O W_V||`` of each query head, products formed in full.

    Weights are (outputs, inputs); fewer key and value rows mean that heads share them in groups.
    """
    width = query.shape[0] // heads
    key_heads = key.shape[0] // width
    value_width = value.shape[0] // key_heads
    norms = []
    for head in range(heads):
        group = head * key_heads // heads
        own = query[head * width : (head + 1) * width]
        met = key[group * width : (group + 1) * width]
        moved = value[group * value_width : (group + 1) * value_width]
        written = output[:, head * value_width : (head + 1) * value_width]
        score = top_singular_value(own.T @ met) / np.sqrt(width)
        norms.append((float(score), top_singular_value(written @ moved)))
    return norms


def linear_part(function: Callable[[np.ndarray], np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """The matrix of an affine map of float64 arrays of ``shape``, one unit vector at a time."""
    shift = function(np.zeros(shape)).ravel()
    columns = []
    for i in range(int(np.prod(shape))):
        unit = np.zeros(shape)
        unit.flat[i] = 1.0
        columns.append(function(unit).ravel() - shift)
    return np.stack(columns, axis=1)
