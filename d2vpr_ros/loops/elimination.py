"""Linear equations of a pose graph: poses that stand between two others go first, many at a time, the rest by SuperLU.

The poses of a drive form chains, and only few of them have a closure. A pose with at most two neighbours can be
eliminated without making any other pose harder to eliminate. Poses of which no two are neighbours can go together, as
one operation over arrays: some twenty rounds leave the ends of closures alone (cyclic reduction).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from d2vpr_ros.geometry import Array

Rows = npt.NDArray[np.int64]

_LEAST_TOGETHER = 32  # poses a round; a round of fewer costs more than it saves


@dataclass(frozen=True, eq=False)
class Blocks:
    """A symmetric matrix of 6x6 blocks.

    Attributes:
        diagonal: (N, 6, 6).
        first, second: (P,) rows and columns of the blocks beside the diagonal; each pair once, first < second.
        beside: (P, 6, 6).
    """

    diagonal: Array
    first: Rows
    second: Rows
    beside: Array


@dataclass(frozen=True, eq=False)
class _Round:
    """Poses that were eliminated together: x = inverse @ (right - to_a @ x[a] - to_b @ x[b])."""

    rows: Rows
    a: Rows
    b: Rows
    to_a: Array
    to_b: Array
    inverse: Array


def merged(size: int, first: Rows, second: Rows, beside: Array) -> tuple[Rows, Rows, Array]:
    """Blocks beside the diagonal with those of one pair added up, and turned so that first < second."""
    turned = first > second
    beside = np.where(turned[:, None, None], beside.transpose(0, 2, 1), beside)
    low, high = np.minimum(first, second), np.maximum(first, second)
    keys, place = np.unique(low * size + high, return_inverse=True)
    return keys // size, keys % size, summed(place, beside, len(keys))


def summed(rows: Rows, blocks: Array, size: int) -> Array:
    """(size, ...) the blocks of each row added up."""
    flat = blocks.reshape(len(blocks), -1)
    sums = np.stack([np.bincount(rows, column, size) for column in flat.T], axis=1)
    return np.asarray(sums.reshape(size, *blocks.shape[1:]))


def solve(matrix: Blocks, right: Array) -> Array:
    """(N, 6) x of matrix x = right.

    Args:
        matrix: positive definite.
        right: (N, 6).
    """
    size = len(right)
    # One row more stands for the neighbour that a pose at the end of a chain does not have.
    diagonal = np.concatenate([matrix.diagonal, np.eye(6)[None]])
    right = np.concatenate([right, np.zeros((1, 6))])
    first, second, beside = matrix.first, matrix.second, matrix.beside
    left = np.ones(size + 1, dtype=bool)
    left[size] = False
    order = np.random.default_rng(0).permutation(size + 1)
    rounds: list[_Round] = []
    while True:
        rows = _apart(size, first, second, left, order)
        if len(rows) < _LEAST_TOGETHER:
            break
        a, b, to_a, to_b, kept = _neighbours(size, rows, first, second, beside)
        inverse = np.linalg.inv(diagonal[rows])
        through_a, through_b = to_a.transpose(0, 2, 1) @ inverse, to_b.transpose(0, 2, 1) @ inverse
        known = right[rows][:, :, None]
        _subtract(diagonal, a, through_a @ to_a)
        _subtract(diagonal, b, through_b @ to_b)
        _subtract(right, a, (through_a @ known)[:, :, 0])
        _subtract(right, b, (through_b @ known)[:, :, 0])
        both = (a < size) & (b < size)
        fill = -(through_a[both] @ to_b[both])
        first, second, beside = merged(
            size + 1,
            np.concatenate([first[kept], a[both]]),
            np.concatenate([second[kept], b[both]]),
            np.concatenate([beside[kept], fill]),
        )
        left[rows] = False
        rounds.append(_Round(rows, a, b, to_a, to_b, inverse))
    solution = np.zeros((size + 1, 6))
    rest = np.flatnonzero(left)
    if len(rest):
        solution[rest] = _by_superlu(rest, size, diagonal, first, second, beside, right)
    for one in reversed(rounds):
        known = right[one.rows][:, :, None] - one.to_a @ solution[one.a][:, :, None]
        known -= one.to_b @ solution[one.b][:, :, None]
        solution[one.rows] = (one.inverse @ known)[:, :, 0]
        solution[size] = 0.0
    return solution[:size]


def _apart(size: int, first: Rows, second: Rows, left: npt.NDArray[np.bool_], order: Rows) -> Rows:
    """Poses with at most two neighbours, no two of them neighbours of each other."""
    degree = np.bincount(first, minlength=size + 1) + np.bincount(second, minlength=size + 1)
    rank = np.where(left & (degree <= 2), order + 1, 0)
    highest = np.zeros(size + 1, dtype=np.int64)
    np.maximum.at(highest, first, rank[second])
    np.maximum.at(highest, second, rank[first])
    return np.flatnonzero(rank > highest)


def _neighbours(
    size: int, rows: Rows, first: Rows, second: Rows, beside: Array
) -> tuple[Rows, Rows, Array, Array, npt.NDArray[np.bool_]]:
    """The two neighbours of each row, `size` where there is none, the blocks from row to them, and the other pairs."""
    slot = np.full(size + 1, -1, dtype=np.int64)
    slot[rows] = np.arange(len(rows))
    of_first, of_second = slot[first] >= 0, slot[second] >= 0
    own = np.concatenate([slot[first[of_first]], slot[second[of_second]]])
    other = np.concatenate([second[of_first], first[of_second]])
    block = np.concatenate([beside[of_first], beside[of_second].transpose(0, 2, 1)])
    sorted_ = np.argsort(own, kind="stable")
    own, other, block = own[sorted_], other[sorted_], block[sorted_]
    is_next = np.zeros(len(own), dtype=bool)
    is_next[1:] = own[1:] == own[:-1]
    a, b = np.full(len(rows), size), np.full(len(rows), size)
    to_a, to_b = np.zeros((len(rows), 6, 6)), np.zeros((len(rows), 6, 6))
    a[own[~is_next]], to_a[own[~is_next]] = other[~is_next], block[~is_next]
    b[own[is_next]], to_b[own[is_next]] = other[is_next], block[is_next]
    return a, b, to_a, to_b, ~(of_first | of_second)


def _subtract(target: Array, rows: Rows, values: Array) -> None:
    """Subtract in place; a row may come twice."""
    used, place = np.unique(rows, return_inverse=True)
    target[used] -= summed(place, values, len(used))


def _by_superlu(
    rest: Rows, size: int, diagonal: Array, first: Rows, second: Rows, beside: Array, right: Array
) -> Array:
    """(len(rest), 6) the solution for the poses that are left."""
    number = np.full(size + 1, -1, dtype=np.int64)
    number[rest] = np.arange(len(rest))
    own = np.arange(len(rest))
    rows = np.concatenate([own, number[first], number[second]])
    columns = np.concatenate([own, number[second], number[first]])
    blocks = np.concatenate([diagonal[rest], beside, beside.transpose(0, 2, 1)])
    inside = np.arange(6)
    down = np.broadcast_to((rows * 6)[:, None, None] + inside[:, None], blocks.shape)
    across = np.broadcast_to((columns * 6)[:, None, None] + inside[None, :], blocks.shape)
    shape = (6 * len(rest), 6 * len(rest))
    matrix = coo_matrix((blocks.ravel(), (down.ravel(), across.ravel())), shape=shape).tocsc()
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return np.asarray(factors.solve(right[rest].ravel())).reshape(-1, 6)
