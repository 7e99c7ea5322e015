"""CKA, effective rank and neighbours against independent computations and what is known of them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from arch_harness.analysis.measures import Centred, linear_cka, neighbour_shares
from arch_harness.embeddings.geometry import effective_rank
from numpy.typing import NDArray


def normal(clips: int, size: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((clips, size), dtype=np.float32)


def cka(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return linear_cka(Centred.of(one), Centred.of(other))


def hsic_of_all_quadruples(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Its definition as a U-statistic (Song et al. 2012, theorem 2's proof): over all ordered four different clips."""
    k, m = one.astype(float) @ one.T.astype(float), other.astype(float) @ other.T.astype(float)
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(len(one)), 4)]
    return float(np.mean(terms))


def cka_of_gram_matrices(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Song et al.'s equation (5), with the Gram matrices as they are."""

    def hsic(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        n = len(first)
        k, m = first - np.diag(np.diag(first)), second - np.diag(np.diag(second))
        ones = np.ones(n)
        return float(
            np.trace(k @ m)
            + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (ones @ k @ m @ ones)
        ) / (n * (n - 3))

    k, m = one.astype(float) @ one.T.astype(float), other.astype(float) @ other.T.astype(float)
    return hsic(k, m) / float(np.sqrt(hsic(k, k) * hsic(m, m)))


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_cka_is_that_of_gram_matrices(offset: float) -> None:
    one = normal(40, 12) + np.float32(offset)
    other = one @ normal(12, 7, 1) + 2 * normal(40, 7, 2)
    assert cka(one, other) == pytest.approx(cka_of_gram_matrices(one, other), abs=1e-5)
    assert 0.1 < cka(one, other) < 0.9


def test_cka_is_made_of_unbiased_estimates() -> None:
    one = normal(8, 3)
    other = one[:, :2] + normal(8, 2, 1)
    expected = hsic_of_all_quadruples(one, other) / np.sqrt(
        hsic_of_all_quadruples(one, one) * hsic_of_all_quadruples(other, other)
    )
    assert cka(one, other) == pytest.approx(float(expected), abs=1e-5)


def test_rotation_scale_and_offset_change_nothing() -> None:
    one = normal(60, 10)
    rotation = np.linalg.qr(normal(10, 10, 1))[0]
    for other in (one, one @ rotation, 1000 * one, one + 3):
        assert cka(one, other) == pytest.approx(1, abs=1e-5)
    stretched = one * np.array([100, *[1] * 9], dtype=np.float32)
    assert cka(one, stretched) < 0.9  # only rotation and scale: not any linear map


def test_unrelated_representations_have_none_though_there_are_more_dimensions_than_clips() -> None:
    one, other = normal(100, 300), normal(100, 300, 1)
    assert abs(cka(one, other)) < 0.05
    centred = [part - part.mean(axis=0) for part in (one, other)]
    products = [
        np.linalg.norm(a.T @ b) ** 2 for a, b in ((centred[0], centred[1]), *((part, part) for part in centred))
    ]
    assert products[0] / np.sqrt(products[1] * products[2]) > 0.7  # what the biased estimate would say


def test_a_constant_is_like_nothing() -> None:
    assert cka(np.ones((10, 3), dtype=np.float32), normal(10, 3)) == 0


def test_the_effective_rank_of_known_spectra() -> None:
    rows = np.linalg.qr(normal(64, 9) - normal(64, 9).mean(axis=0))[0]
    rows -= rows.mean(axis=0)
    basis = np.linalg.qr(rows)[0][:, :8]
    for spectrum in ([1.0] * 8, [1.0] * 3 + [0.0] * 5, [1.0, 0.5, 0.25, 0.125, 0, 0, 0, 0]):
        shares = np.array([value for value in spectrum if value]) / sum(spectrum)
        expected = np.prod(shares**-shares)  # the exponential of the entropy
        found = (basis * spectrum).astype(np.float32)
        assert effective_rank(found) == pytest.approx(expected, rel=1e-3)
        assert effective_rank(100 * found + 7) == pytest.approx(expected, rel=1e-2)
    assert effective_rank(np.full((20, 4), 0.1, dtype=np.float32)) == 0
    assert effective_rank(np.outer(np.arange(20), [1, 2, 3]).astype(np.float32)) == pytest.approx(1, abs=1e-3)


def test_neighbours_are_of_the_group_that_they_lie_in() -> None:
    centres = 10 * np.eye(3, 6)
    groups = np.repeat(np.arange(3), 20)
    apart = (centres[groups] + 0.1 * normal(60, 6)).astype(np.float32)
    np.testing.assert_array_equal(neighbour_shares(apart, groups, 5), np.eye(3))
    # Two groups in one place: each finds as many of the other as of itself, but for itself.
    mixed = (centres[np.minimum(groups, 1)] + 0.1 * normal(60, 6)).astype(np.float32)
    shares = neighbour_shares(mixed, groups, 5)
    assert shares[0].tolist() == [1, 0, 0]
    assert shares[1, 0] == shares[2, 0] == 0
    assert shares[1, 2] == pytest.approx(20 / 39, abs=0.15)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_neighbours_are_those_of_a_sort() -> None:
    rows, groups = normal(30, 4), np.arange(30) % 3
    centred = rows.astype(float) - rows.astype(float).mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    expected = np.zeros((3, 3))
    for clip in range(30):
        order = [other for other in np.argsort(-(unit @ unit[clip])) if other != clip]
        for other in order[:4]:
            expected[groups[clip], groups[other]] += 1 / 40
    np.testing.assert_allclose(neighbour_shares(rows, groups, 4), expected)
