"""Closing loops in a map that is being built: places are taken as they are stored, and all corrected now and then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.geometry import Pose
from d2vpr_ros.loops.closer import LoopCloser
from d2vpr_ros.loops.closing import Closing, place_of, solve_closing
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.correct import write_correction
from d2vpr_ros.loops.elimination import Rows
from d2vpr_ros.loops.g2o import write_g2o
from d2vpr_ros.loops.params import DEFAULT_PARAMS, LoopParams
from d2vpr_ros.loops.past import Place
from d2vpr_ros.mapping.loop_table import StoredOdometry
from d2vpr_ros.mapping.place_map import PlaceMap, read_map, read_new_places
from d2vpr_ros.outfile import new_file


@dataclass(frozen=True, eq=False)
class Corrected:
    """The drive so far.

    Attributes:
        ids, stamps_ns: (N,) of the places of this session, in order.
        poses: T_map_base of each.
        map_odom: T_map_odom of the newest of them; None where the odometry began anew and no closure has joined what
            came then to what was before.
        closing: all that was found.
    """

    ids: Rows
    stamps_ns: Rows
    poses: Sequence[Pose]
    map_odom: Pose | None
    closing: Closing


class LiveLoops:
    """Of one session of a map file that somebody writes; one thread calls all of it.

    Attributes:
        closer: what takes the places.
    """

    def __init__(
        self, path: Path, session: int, features: FeatureExtractor, params: LoopParams = DEFAULT_PARAMS
    ) -> None:
        """
        Args:
            session: whose places may be moved; those of earlier ones stay.
        """
        self._path, self._session, self._features, self._params = path, session, features, params
        self.closer: LoopCloser | None = None
        self._last = -(2**63)
        self._odometry: dict[int, StoredOdometry] = {}

    def take_new(self) -> Iterator[tuple[Place, list[Closure]]]:
        """Each place that was stored since, with the closures that are accepted with it.

        Raises:
            UserError: the map cannot be read.
        """
        new = read_new_places(self._path, self._last)
        for row in range(0 if new is None else len(new)):
            assert new is not None
            yield self._take(new, row)

    def _take(self, new: PlaceMap, row: int) -> tuple[Place, list[Closure]]:
        if self.closer is None:
            self.closer = LoopCloser(self._path, new.header, self._features, self._params)
        stored = StoredOdometry(new.camera_pose(row), new.covariance(row))
        place = place_of(new, row, stored)
        self._last, self._odometry[place.id] = place.id, stored
        if place.session != self._session:
            self.closer.know(place)
            return place, []
        return place, self.closer.take(place)

    def correct(self) -> Corrected | None:
        """The best poses by what was taken; None before the first place of the session.

        Raises:
            UserError: as `solve_closing`.
        """
        if self.closer is None or not any(place.session == self._session for place in self.closer.past.places):
            return None
        place_map = self.closer.past.map()
        own = place_map.sessions == self._session
        closing = solve_closing(place_map, self.closer, self._odometry, ~own)
        positions, rotations = place_map.base_poses()
        if (found := closing.correction) is not None:
            positions[found.rows], rotations[found.rows] = found.positions, found.rotations
        turned = Rotation.from_matrix(rotations).as_quat()
        rows = np.flatnonzero(own)
        poses = [Pose(positions[row], turned[row]) for row in rows]
        map_odom = None if closing.pieces > 1 else poses[-1] @ place_map.base_pose(int(rows[-1])).inverse()
        return Corrected(place_map.ids[own], place_map.stamps_ns[own], poses, map_odom, closing)

    def gone_on(self, corrected: Corrected) -> Corrected:
        """With the places that were taken since, carried on by odometry; no closure came with them."""
        assert self.closer is not None
        past, known = self.closer.past, corrected.ids[-1]
        rows = [row for row, place in enumerate(past.places) if place.id > known and place.session == self._session]
        map_odom = None if any(past.begins[row] for row in rows) else corrected.map_odom
        if map_odom is None or not rows:
            return replace(corrected, map_odom=map_odom)
        new = [past.places[row] for row in rows]
        return replace(
            corrected,
            ids=np.append(corrected.ids, [place.id for place in new]),
            stamps_ns=np.append(corrected.stamps_ns, [place.stamp_ns for place in new]),
            poses=[*corrected.poses, *(map_odom @ place.base for place in new)],
            map_odom=map_odom,
        )

    def write(self, closing: Closing, g2o: Path) -> None:
        """Write the corrected poses into the map, where there are closures, and its graph to a g2o file.

        Nobody else may write to the map meanwhile.

        Raises:
            UserError: one cannot be written; it is as it was then.
        """
        if closing.correction is not None and self.closer is not None:
            write_correction(self.closer.past.map(), closing.correction)
        with new_file(g2o, force=True, source=self._path) as partial:
            write_g2o(read_map(self._path), partial)
