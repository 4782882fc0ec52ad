"""A map as the cameras of one robot would see it.

A hypothesis is a pose of the base, so the images of every camera speak of the same ones: a place that camera c sees has
the base at T_map_place @ T_base_c^-1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping import PlaceMap

_VIEW, _VIEW_RAD = 2.0, np.radians(30.0)  # spacings and turn, within which two camera poses see about the same
_LEAST_COVERAGE = 0.1  # of the map's places
_SAMPLE, _AROUND = 1000, 32  # places looked at, and neighbours of each
_OTHER_SEQUENCE = 1e6  # places; sets the sessions of a map without metres apart


def coverage(place_map: PlaceMap, mount: Pose) -> float:
    """Share of the map's places at which a camera with this mount (T_base_cameraOptical) would see what is in the map.

    The robot is taken to stand and head as the one did that made the map.
    """
    rows = np.arange(0, len(place_map), max(1, len(place_map) // _SAMPLE))
    positions, rotations = place_map.base_poses()
    bases = Rotation.from_matrix(rotations[rows])
    wanted_at = positions[rows] + bases.apply(mount.position)
    wanted = (bases * mount.rotation).as_matrix()
    tree = cKDTree(place_map.positions)
    gaps, near = tree.query(wanted_at, k=min(_AROUND, len(place_map)))
    gaps, near = gaps.reshape(len(rows), -1), near.reshape(len(rows), -1)
    axes = Rotation.from_quat(place_map.quaternions).as_matrix()[:, :, 2]
    facing = np.einsum("ai,aki->ak", wanted[:, :, 2], axes[near])
    return float(((gaps <= _VIEW * place_map.spacing_m) & (facing >= np.cos(_VIEW_RAD))).any(axis=1).mean())


class Cameras:
    """Attributes:
    mounts: T_base_cameraOptical by the cameras' numbers; that of an only camera may be None: each place's own.
    bases: by camera, (N, 3) positions and (N, 3, 3) rotations of T_map_base where it would see each place.
    coverage: by camera, the share of the map that it would see, where there are several cameras.
    """

    def __init__(self, place_map: PlaceMap, mounts: Sequence[Pose | None]) -> None:
        """
        Raises:
            UserError: several cameras, and a map without metres.
        """
        if len(mounts) > 1 and not place_map.header.metric:
            raise UserError(
                f"map {place_map.path} has no metres, so it cannot bring several cameras together; "
                "name one camera, or build the map from a drive with poses"
            )
        self.mounts = tuple(mounts)
        several = [mount for mount in mounts if mount is not None] if len(mounts) > 1 else []
        self.coverage = tuple(coverage(place_map, mount) for mount in several)
        self.bases = [place_map.base_poses(mount) for mount in mounts]
        if not place_map.header.metric:
            self.bases[0][0][:, 1] = _OTHER_SEQUENCE * place_map.sessions

    def sees_map(self, camera: int) -> bool:
        """Whether a camera sees enough of what was mapped; images of one that does not only speak against the map.

        One camera's always count, and those of several of which none sees the map: their mounts may be wrong.
        """
        if not self.coverage:
            return True
        return self.coverage[camera] >= _LEAST_COVERAGE or max(self.coverage) < _LEAST_COVERAGE
