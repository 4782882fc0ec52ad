"""One belief from several cameras on one base.

A state of the belief is then a base from which one of the robot's cameras would see a place of the map: place `row`
seen by camera `c` is state c * N + row of the N places, and its pose T_map_place @ T_base_c^-1. States of different
cameras that stand for the same base lie on each other, so motion and likelihood go from one to the other by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.localize.belief import Places
from d2vpr_ros.localize.tracker import Observation, Standing
from d2vpr_ros.mapping import PlaceMap

Descriptor = npt.NDArray[np.float32]

_NEAR, _ALIKE_RAD = 3.0, np.radians(40.0)  # spacings and turn, within which two states are one answer
_VIEW, _VIEW_RAD = 2.0, np.radians(30.0)  # the same of two camera poses that see about the same
_LEAST_COVERAGE = 0.1  # of the map's places
_SAMPLE, _AROUND = 1000, 32  # places looked at, and neighbours of each
_OTHER_SEQUENCE = 1e6  # places; sets the sessions of a map without metres apart
# After how much it is another camera's turn: spacings, turn; by sight the share of a neighbouring place's change.
_STEP, _STEP_RAD, _NEWS = 0.1, np.radians(4.0), 0.3


def seen_by(camera: int, image: Observation, standing: Standing, places: Places, count: int) -> tuple[Standing, int]:
    """Where the mass stands, in places of the map instead of states.

    Args:
        camera: that took the image; its places are given, unless the map has no view of its near the answer.
        places: the states; count: of the map's places.

    Returns:
        The standing in rows of the map, and the camera that would see them.
    """
    own = standing.ranked // count == camera
    gaps = np.linalg.norm(places.positions[standing.ranked] - places.positions[standing.best], axis=1)
    here, heading = own & (gaps <= _NEAR * places.spacing_m), standing.best
    if image.odometry is None:  # then nothing but the image tells which way the robot faces
        scores = dict(zip(image.candidates.tolist(), image.scores.tolist(), strict=True))
        heading = max(standing.ranked[here].tolist(), key=lambda state: scores.get(state, -np.inf), default=heading)
    # The angle of the relative rotation from its trace.
    trace = np.einsum("ij,aij->a", places.rotations[heading], places.rotations[standing.ranked])
    here &= np.arccos(np.clip((trace - 1) / 2, -1, 1)) <= _ALIKE_RAD
    if not here.any():
        camera = standing.best // count
        own = standing.ranked // count == camera
        here = standing.ranked == standing.best
    best = int(here.argmax())
    order = np.concatenate([[best], np.setdiff1d(np.flatnonzero(own), [best])])
    rows = standing.ranked[order] % count
    return replace(standing, ranked=rows, beliefs=standing.beliefs[order], best=int(rows[0])), camera


def coverage(place_map: PlaceMap, mount: Pose) -> float:
    """Share of the map's places at which a camera with this mount (T_base_cameraOptical) would see what is in the map.

    The robot is taken to stand and head as the one did that made the map.
    """
    rows = np.arange(0, len(place_map), max(1, len(place_map) // _SAMPLE))
    positions, rotations = place_map.base_poses()
    bases = Rotation.from_matrix(rotations[rows])
    wanted_at = positions[rows] + bases.apply(mount.position)
    wanted = (bases * mount.rotation).as_matrix()
    tree = Places.of(place_map.positions, rotations, place_map.spacing_m).tree
    gaps, near = tree.query(wanted_at, k=min(_AROUND, len(place_map)))
    gaps, near = gaps.reshape(len(rows), -1), near.reshape(len(rows), -1)
    axes = Rotation.from_quat(place_map.quaternions).as_matrix()[:, :, 2]
    facing = np.einsum("ai,aki->ak", wanted[:, :, 2], axes[near])
    return float(((gaps <= _VIEW * place_map.spacing_m) & (facing >= np.cos(_VIEW_RAD))).any(axis=1).mean())


class Cameras:
    """A map as the robot's cameras would see it.

    Attributes:
        mounts: T_base_cameraOptical by the cameras' numbers; that of an only camera may be None: each place's own.
        coverage: of each, where there are several.
        states: of the belief.
    """

    def __init__(self, place_map: PlaceMap, mounts: Sequence[Pose | None], alike: float) -> None:
        """
        Args:
            alike: similarity of neighbouring places.

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
        positions, rotations = zip(*(place_map.base_poses(mount) for mount in mounts), strict=True)
        if not place_map.header.metric:
            positions[0][:, 1] = _OTHER_SEQUENCE * place_map.sessions
        self.states = Places.of(np.concatenate(positions), np.concatenate(rotations), place_map.spacing_m)
        self._count = len(place_map)
        self._turns = Turns(len(mounts), place_map.spacing_m, alike)

    def forget(self) -> None:
        """Begin a new way."""
        self._turns.forget()

    def forget_odometry(self) -> None:
        """As `Tracker.forget_odometry`."""
        self._turns.forget_odometry()

    def sees_map(self, camera: int) -> bool:
        """Whether a camera sees enough of what was mapped; images of one that does not only speak against the map.

        One camera's always count, and those of several of which none sees the map: their mounts may be wrong.
        """
        if not self.coverage:
            return True
        return self.coverage[camera] >= _LEAST_COVERAGE or max(self.coverage) < _LEAST_COVERAGE

    def take(self, camera: int, image: Observation) -> tuple[Observation, bool]:
        """An image of a camera with states for its candidates, rows of the map; and whether it is to be remembered."""
        if len(self.mounts) == 1:
            return image, True
        together, is_turn = self._turns.take(camera, image.descriptor, image.odometry)
        states = camera * self._count + image.candidates
        return replace(image, descriptor=together, candidates=states), is_turn

    def seen(self, camera: int, image: Observation, standing: Standing) -> tuple[Standing, int]:
        """Where the mass stands after an image from `take`, in rows of the map, and the camera that would see them."""
        if len(self.mounts) == 1 and image.odometry is not None:
            return standing, camera
        return seen_by(camera, image, standing, self.states, self._count)


class Turns:
    """Whose image the belief remembers: the cameras take turns along the way.

    Together they bring as much evidence as one camera would: pictures taken at one spot are not independent, and what
    makes streets look alike makes them so on every side. Tried with each camera counting in full (front and left in the
    calibration towns, with odometry), the robot was found sooner, and off the map it was given over ten times as many
    wrong answers. Images out of turn are answered all the same.
    """

    def __init__(self, cameras: int, spacing_m: float, alike: float) -> None:
        """
        Args:
            alike: similarity of neighbouring places.
        """
        self._count, self._spacing_m = cameras, spacing_m
        self._least_change = _NEWS * max(1 - alike, 1e-6)
        self.forget()

    def forget(self) -> None:
        """Begin a new way."""
        self._newest: dict[int, Descriptor] = {}
        self._last: tuple[int, Descriptor, Pose | None] | None = None  # whose turn was, what it saw, where
        self._order: list[int] = []  # of the cameras' last turns
        self._heard: set[int] = set()  # since the last turn
        self._waited = [0] * self._count  # images of each camera since its own turn, for another camera's sake

    def forget_odometry(self) -> None:
        """As `Tracker.forget_odometry`."""
        if self._last is not None:
            self._last = (*self._last[:2], None)

    def take(self, camera: int, descriptor: Descriptor, odometry: Pose | None) -> tuple[Descriptor, bool]:
        """Take an image into account.

        Returns:
            What all cameras see now, as one descriptor of unit length that changes as much as theirs do on average; and
            whether it is this camera's turn.
        """
        self._newest[camera] = descriptor
        self._heard.add(camera)
        nothing = np.zeros_like(descriptor)
        views = [self._newest.get(number, nothing) for number in range(self._count)]
        together = np.concatenate(views) / np.float32(np.sqrt(len(self._newest)))
        return together, self._is_turn(camera, descriptor, odometry)

    def _is_turn(self, camera: int, descriptor: Descriptor, odometry: Pose | None) -> bool:
        patient = self._waited[camera] < self._count  # who fell silent is not waited for
        if not self._has_moved(odometry, patient):
            self._waited[camera] += self._last is not None and self._last[0] not in self._heard
            return False
        if patient and any(self._last_turn(other) < self._last_turn(camera) for other in self._heard):
            self._waited[camera] += 1
            return False
        self._waited[camera], self._heard, self._last = 0, set(), (camera, descriptor, odometry)
        self._order = [*(other for other in self._order if other != camera), camera]
        return True

    def _has_moved(self, odometry: Pose | None, patient: bool) -> bool:
        """Since the last turn: by the odometry, else by what the camera sees whose turn it was."""
        if self._last is None:
            return True
        camera, before, at = self._last
        if at is not None and odometry is not None:
            far = distance(at, odometry) >= _STEP * self._spacing_m
            return far or turn(at, odometry) >= _STEP_RAD
        if camera not in self._heard:
            return not patient
        return 1 - float(before @ self._newest[camera]) >= self._least_change

    def _last_turn(self, camera: int) -> int:
        return self._order.index(camera) if camera in self._order else -1
