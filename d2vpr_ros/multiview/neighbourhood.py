"""What the poses about a place tell: which places show the same, how exact the poses are, and where the ground is."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.multiview.adjustment import Priors
from d2vpr_ros.multiview.params import DEFAULT_PARAMS, GeometryParams
from d2vpr_ros.multiview.resection import Ground

_LOOKED_AT = 64  # of the nearest places, when neighbours are chosen
_SAME_SPOT_M = 1e-3  # two places nearer than this give no parallax
_LEVEL_DEG = 5.0  # a base tilted further does not stand on level ground
_WAY_SPACINGS = 8.0  # along a drive whose poses drift, places this far apart are still placed well to each other


class Neighbourhood:
    """Answers for a map whose poses stay as they are.

    Attributes:
        way: (N,) metres along the drives at each place, where the poses are odometry's: they drift, so only places near
            one another along the way are placed well to each other, and what the map states of a pose is its drift.
            None where the poses are the map's.
    """

    def __init__(self, place_map: PlaceMap, params: GeometryParams = DEFAULT_PARAMS, way: Array | None = None) -> None:
        self.map = place_map
        self.params = params
        self.way = way

    def neighbours(self, row: int) -> npt.NDArray[np.int64]:
        """Rows of the places that help to triangulate a place's landmarks, nearest first.

        They look the same way, and no two of them stand nearer to each other than places do in this map, so that a
        robot that stood still does not fill them with one view.
        """
        _, near = self._tree.query(self.map.positions[row], k=min(_LOOKED_AT, len(self.map)))
        near = np.atleast_1d(near)
        near = near[near != row]
        if self.way is not None:
            near = near[np.abs(self.way[near] - self.way[row]) <= _WAY_SPACINGS * self.map.spacing_m]
        turned = _angles(self._rotations[near], self._rotations[row])
        chosen = [row]
        for other in near[turned <= np.radians(self.params.most_turn_deg)]:
            apart = np.linalg.norm(self.map.positions[chosen] - self.map.positions[other], axis=1)
            if apart.min() >= self._least_apart_m:
                chosen.append(int(other))
            if len(chosen) > self.params.neighbours:
                break
        return np.array(chosen[1:], np.int64)

    def priors(self, row: int) -> Priors:
        """How far the map's poses about a place are trusted: by how far apart its places are."""
        apart = np.linalg.norm(self.map.positions[self.neighbours(row)] - self.map.positions[row], axis=1)
        apart_m = float(apart.min()) if len(apart) else self.map.spacing_m  # of a lone place with stored landmarks
        sigma_m = max(self.params.position_sigma * apart_m, self.params.least_position_sigma_m)
        return Priors(sigma_m, np.radians(self.params.rotation_sigma_deg))

    def noise(self, row: int) -> Array:
        """(6, 6) covariance of the map's own pose at a place: as stated, else as it was assumed for the landmarks.

        Zero for odometry's poses: there one asks how an image stands to the place, and landmarks are relative to it."""
        if self.way is not None:
            return np.zeros((6, 6))
        stated = self.map.covariance(row)
        if stated is not None and stated.any():
            return stated
        priors = self.priors(row)
        return np.diag(np.repeat([priors.position_sigma_m, priors.rotation_sigma], 3) ** 2)

    def ground(self, row: int, mount: Pose | None) -> Ground | None:
        """What a robot on level ground has in common with a place; None where the map's poses are not level."""
        if not self.on_level_ground:
            return None
        seen = self.map.base_pose(row) @ (mount or self.map.mount(row))
        up = seen.rotation.inv().apply([0.0, 0.0, 1.0])
        return Ground(up, float(seen.position[2]))

    @cached_property
    def _rotations(self) -> Array:
        return np.asarray(self.map.base_poses(Pose.identity())[1])

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.map.positions)

    @cached_property
    def _least_apart_m(self) -> float:
        """How near two of a place's neighbours may be to each other, metres."""
        if len(self.map) < 2:
            return _SAME_SPOT_M
        nearest = self._tree.query(self.map.positions, k=2)[0][:, 1]
        apart = nearest[nearest > _SAME_SPOT_M]
        return float(np.median(apart)) * 0.5 if len(apart) else _SAME_SPOT_M

    @cached_property
    def on_level_ground(self) -> bool:
        """Whether the robot that made the map stood level at nearly all places: its map is aligned with gravity."""
        up = self.map.base_poses()[1][:, 2, 2]
        return bool(np.quantile(up, 0.05) >= np.cos(np.radians(_LEVEL_DEG)))


def _angles(rotations: Array, other: Array) -> Array:
    """(N,) radians between rotations (N, 3, 3) and another (3, 3)."""
    cosines = (np.einsum("nij,ij->n", rotations, other) - 1) / 2
    return np.asarray(np.arccos(np.clip(cosines, -1.0, 1.0)))
