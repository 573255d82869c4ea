import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gradaudit.linalg import lanczos
from gradaudit.linalg.lanczos import Extremes, SymmetricMap, extreme_eigenvalues


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bulk(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, generator=generator(seed), dtype=torch.float64)


SPECTRA = {
    "outliers": torch.cat([torch.tensor([10.0, 5, 3, 2, 1, 1]), 0.05 * bulk(294)]),
    "normal": bulk(300),
    "geometric": 0.9 ** torch.arange(300, dtype=torch.float64),
    "even": torch.linspace(-1, 1, 300, dtype=torch.float64),
    "mostly negative": torch.cat([torch.tensor([-20.0, -10, 1]), 0.05 * bulk(297)]),
    "all negative": -1 - bulk(300).square(),
}


def diagonal(spectrum: Tensor, dtype: torch.dtype = torch.float64) -> SymmetricMap:
    values = spectrum.to(dtype)
    return SymmetricMap(lambda v: values * v, len(values), dtype)


def dense(matrix: Tensor) -> SymmetricMap:
    return SymmetricMap(lambda v: matrix @ v, len(matrix), matrix.dtype)


def holds(found: Extremes, spectrum: Tensor) -> tuple[bool, bool]:
    low, high = float(spectrum.min()), float(spectrum.max())
    return (
        found.top.low <= high <= found.top.high,
        found.bottom.low <= low <= found.bottom.high,
    )


@pytest.mark.parametrize("steps", [3, 8, 20])
@pytest.mark.parametrize("name", SPECTRA)
def test_both_ends_are_held_by_their_bounds(name: str, steps: int) -> None:
    spectrum = SPECTRA[name]
    seeds = 40
    found = [
        holds(extreme_eigenvalues(diagonal(spectrum), steps, generator(s), tolerance=0), spectrum)
        for s in range(seeds)
    ]
    for end in (0, 1):
        # at least 95%, less three standard errors of this many draws
        assert sum(pair[end] for pair in found) >= seeds * (0.95 - 3 * math.sqrt(0.0475 / seeds))


def test_the_bound_is_no_wider_than_the_classical_one() -> None:
    """Kuczynski and Wozniakowski 1992, shifted: both ends unknown, half of delta each."""
    n, spectrum = 300, SPECTRA["even"]
    for k in (20, 30):
        found = extreme_eigenvalues(diagonal(spectrum), k, generator(), tolerance=0)
        eps = (math.log(1.648 * math.sqrt(n) / 0.025) / (2 * k - 1)) ** 2
        classical = eps / (1 - 2 * eps) * (found.top.value - found.bottom.value)
        assert found.top.high - found.top.value < 0.7 * classical


def test_it_stops_where_the_top_is_known_well_enough() -> None:
    spectrum = SPECTRA["outliers"]
    found = extreme_eigenvalues(diagonal(spectrum), 60, generator(), tolerance=5e-3)
    assert found.steps < 10
    assert found.top.high - found.top.low <= 0.05
    assert found.top.value == pytest.approx(10.0, rel=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_small_space_is_used_up_and_exact(n: int) -> None:
    matrix = torch.randn(n, n, generator=generator(n), dtype=torch.float64)
    matrix = matrix + matrix.T
    found = extreme_eigenvalues(dense(matrix), 20, generator(), tolerance=0)
    truth = np.linalg.eigvalsh(matrix.numpy())
    assert found.steps <= n
    assert found.exhausted
    assert [found.bottom.value, found.top.value] == pytest.approx([truth[0], truth[-1]])
    assert found.top.high - found.top.low <= 1e-13 * found.scale


def test_zero_rank_one_and_minus_rank_one() -> None:
    v = torch.arange(1.0, 9.0, dtype=torch.float64)
    size = float(v @ v)
    for factor, ends in ((0.0, (0.0, 0.0)), (1.0, (0.0, size)), (-1.0, (-size, 0.0))):
        found = extreme_eigenvalues(dense(factor * torch.outer(v, v)), 20, generator())
        assert found.exhausted
        assert (found.bottom.value, found.top.value) == pytest.approx(ends, abs=1e-10)
        assert (found.bottom.high, found.top.high) == pytest.approx(ends, abs=1e-10)


def test_float32_bounds_allow_for_rounding() -> None:
    spectrum = SPECTRA["geometric"].float()
    for seed in range(20):
        symmetric = diagonal(spectrum, torch.float32)
        found = extreme_eigenvalues(symmetric, 60, generator(seed), tolerance=0)
        assert found.top.low <= 1.0 <= found.top.high
        assert found.top.value == pytest.approx(1.0, rel=1e-5)


def test_a_short_memory_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    spectrum = SPECTRA["normal"]
    full = extreme_eigenvalues(diagonal(spectrum), 16, generator(), tolerance=0)
    monkeypatch.setattr(lanczos, "MAX_BASIS_ENTRIES", 0)
    short = extreme_eigenvalues(diagonal(spectrum), 16, generator(), tolerance=0)
    assert short.top.value == pytest.approx(full.top.value, rel=1e-9)
    assert short.top.high == pytest.approx(full.top.high, rel=1e-6)
    # past convergence it loses orthogonality, and still does not leave the spectrum
    outliers = SPECTRA["outliers"]
    late = extreme_eigenvalues(diagonal(outliers), 60, generator(), tolerance=0)
    assert late.top.value == pytest.approx(10.0, rel=1e-9)
    assert holds(late, outliers) == (True, True)


def test_a_map_that_is_not_symmetric_shows() -> None:
    lopsided = torch.triu(torch.ones(20, 20, dtype=torch.float64))
    found = extreme_eigenvalues(dense(lopsided), 10, generator())
    assert found.asymmetry > 0.01 * found.scale
    fair = extreme_eigenvalues(dense(lopsided @ lopsided.T), 10, generator())
    assert fair.asymmetry < 1e-12 * fair.scale


def test_a_product_that_is_not_finite_is_refused() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        extreme_eigenvalues(diagonal(torch.tensor([1.0, math.inf])), 2, generator())


def test_the_same_seed_gives_the_same_numbers() -> None:
    spectrum = SPECTRA["normal"]
    first, again, other = (
        extreme_eigenvalues(diagonal(spectrum), 6, generator(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.top != other.top
