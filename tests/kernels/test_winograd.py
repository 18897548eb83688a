"""Winograd's transforms against the derivation that stands above them, in exact fractions."""
from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
import pytest

from tinydiff.kernels import winograd_transforms as winograd

POINTS = [Fraction(p) for p in (0, 1, -1, 2, -2)]           # and infinity


def coefficients(roots):
    """Of the product of (z - q) over the roots, from z^0 up to z^5: each is a sum over the ways to take z from the other factors."""
    found = [Fraction(0)] * 6
    for taken in product((True, False), repeat=len(roots)):
        found[sum(taken)] += prod(-q for q, z in zip(roots, taken) if not z)
    return found


def rows_of_points():
    """B^T (6,6), G (6,3) and A^T (4,6), as the docstring of winograd_transforms.py makes them."""
    others = [[q for q in POINTS if q != p] for p in POINTS]
    norms = [prod(p - q for q in rest) for p, rest in zip(POINTS, others)]
    B_T = [coefficients(rest) for rest in others] + [coefficients(POINTS)]
    G = [[p**k / norm for k in range(3)] for p, norm in zip(POINTS, norms)] + [[0, 0, 1]]
    A_T = [[p**k for p in POINTS] + [int(k == 3)] for k in range(4)]
    return (np.array(rows, dtype=float) for rows in (B_T, G, A_T))


def matrix(transform, size):
    """The matrix of a transform: what it makes of each unit vector is a column."""
    return np.array([transform(list(column)) for column in np.eye(size)]).T


def test_the_matrices_are_those_of_the_points():
    B_T, G, A_T = rows_of_points()
    near = dict(rtol=0, atol=1e-15)                         # entries up to 8, whole or sums of two rounded fractions below 1/4
    np.testing.assert_allclose(matrix(winograd.input_transform, 6), B_T, **near)
    np.testing.assert_allclose(matrix(winograd.weight_transform, 3), G, **near)
    np.testing.assert_allclose(matrix(winograd.output_transform, 6), A_T, **near)
    np.testing.assert_allclose(matrix(winograd.weight_adjoint, 6), G.T, **near)
    np.testing.assert_allclose(matrix(winograd.output_adjoint, 4), A_T.T, **near)


def test_six_products_make_four_outputs():
    """y_k = sum over i of x_{k+i} w_i, for the unit vectors of x and w: the formula has one term of each, so this is all of it."""
    for x, w in product(np.eye(6), np.eye(3)):
        products = np.multiply(winograd.weight_transform(w), winograd.input_transform(x))
        assert winograd.output_transform(products) == pytest.approx([x[k:k + 3] @ w for k in range(4)], abs=1e-14)


def test_the_entry_that_is_skipped_is_not_needed():
    doubled = matrix(winograd.doubled_input_transform, 4)
    assert not doubled[winograd.SKIPPED].any() and np.count_nonzero(doubled.any(axis=1)) == 5
    paired = matrix(winograd.paired_output_transform, 6)
    np.testing.assert_array_equal(paired, matrix(winograd.output_transform, 6).reshape(2, 2, 6).sum(axis=1))
    assert not paired[:, winograd.SKIPPED].any()
