"""Where the robot may be: a discrete Bayes filter over the map's places and one state off the map.

A place's state means that the robot's base stands near that place and faces about as the place did. Each image
multiplies the mass of every place by how likely such an image is there (`likelihood`), each motion moves the mass
along (as in topometric localization, arXiv 2107.07707). Three things keep it small and exact enough:

- Only the few hundred places that matter have a mass of their own; all others share the rest evenly.
- A state carries its offset: how far from the place the robot is, by the odometry. Steps shorter than the places are
  apart would be lost otherwise.
- A state carries the history of its best way: over how many images, and how well they fitted. That is what tells a
  look-alike street from the right one when both have some mass.

Everything is in log space and normalised after each image, so nothing underflows however long it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from d2vpr_ros.localize.change_test import unknown

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Places:
    """Where the map's places are.

    Attributes:
        positions: (N, 3) metres, rotations: (N, 3, 3): T_map_base at each place.
        spacing_m: metres between neighbours.
        tree: over the positions.
    """

    positions: Array
    rotations: Array
    spacing_m: float
    tree: cKDTree

    @staticmethod
    def of(positions: Array, rotations: Array, spacing_m: float) -> Places:
        return Places(positions, rotations, spacing_m, cKDTree(positions))

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Belief:
    """Masses after an image; all of them and `rest` and `off_map` add up to one.

    Attributes:
        rows: (A,) the places with a mass of their own.
        log_mass: (A,) natural logarithms of their masses.
        offsets: (A, 3) metres in the map, from the place to where the robot would be.
        fit: (A,) summed standardised similarity along each state's best way, older images counting less.
        images: (A,) the number of images it is the sum of.
        chances: (A, 6) that the robot has left the way since, or is on it with each quality (`change_test`).
        speeds: (A, 3) metres a second in the map along each state's best way, NaN where not known.
        rest: log mass of all other places together.
        off_map: log mass of being somewhere else.
    """

    rows: Rows
    log_mass: Array
    offsets: Array
    fit: Array
    images: Array
    chances: Array
    speeds: Array
    rest: float
    off_map: float

    @staticmethod
    def nothing_known() -> Belief:
        """Half on the map, anywhere; half off it."""
        nothing, vectors = np.empty(0), np.empty((0, 3))
        half = float(np.log(0.5))
        return Belief(np.empty(0, np.int64), nothing, vectors, nothing, nothing, unknown(0), vectors, half, half)

    @property
    def mean_fit(self) -> Array:
        """(A,) mean standardised similarity of the images along each state's way."""
        return self.fit / np.maximum(self.images, 1.0)


def normalised(belief: Belief) -> Belief:
    total = np.logaddexp.reduce(np.append(belief.log_mass, [belief.rest, belief.off_map]))
    return replace(
        belief,
        log_mass=belief.log_mass - total,
        rest=float(belief.rest - total),
        off_map=float(belief.off_map - total),
    )
