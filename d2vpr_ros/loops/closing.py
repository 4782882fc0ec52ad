"""Close the loops of a map that is built: find closures, solve the pose graph, and say what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.loops.closer import LoopCloser
from d2vpr_ros.loops.closure import BELIEVED, Closure
from d2vpr_ros.loops.correct import Correction, write_correction
from d2vpr_ros.loops.params import DEFAULT_PARAMS, LoopParams
from d2vpr_ros.loops.past import Place
from d2vpr_ros.loops.pieces import Pieces
from d2vpr_ros.loops.robust import solve
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.loop_table import StoredOdometry, read_odometry


@dataclass(frozen=True, eq=False)
class Closing:
    """What came of closing the loops of a map.

    Attributes:
        places: that were looked at.
        closed: ids of those that were seen before.
        closures: accepted, with the weights of the solution.
        refused: candidates that became no closure, by reason.
        stated: whether the odometry's own covariances were used.
        pieces: drives, or parts of drives between which the odometry began anew, that no closure joins to the rest.
        largest_m: the farthest that a place is moved from where the map had it.
        correction: None where no closure was found.
    """

    places: int
    closed: frozenset[int]
    closures: tuple[Closure, ...]
    refused: Mapping[str, int]
    stated: bool
    pieces: int
    largest_m: float
    correction: Correction | None

    def __str__(self) -> str:
        lines = []
        if not self.closures:
            lines.append("no loops found; the map is unchanged")
        else:
            runs = len({closure.run for closure in self.closures})
            kinds = Counter(closure.kind for closure in self.closures)
            by_kind = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            lines.append(
                f"{len(self.closures)} closures ({by_kind}) at {runs} revisits; {len(self.closed)} of {self.places} "
                f"places were seen before; the largest correction is {self.largest_m:.2f} m"
            )
            out = [closure for closure in self.closures if closure.weight < BELIEVED]
            if out:
                believed = {closure.run for closure in self.closures if closure.weight >= BELIEVED}
                gone = len({closure.run for closure in out} - believed)
                whole = f", among them all of {gone} revisits" if gone else ""
                lines.append(f"refused by the pose graph: {len(out)} closures that contradict the others{whole}")
            source = "as stated by the odometry" if self.stated else "by the model for wheel odometry"
            lines.append(f"uncertainty of the steps: {source}")
        if self.pieces > 1:
            lines.append(f"{self.pieces} parts share no loop: how they lie to each other is not known")
        lines += [f"refused: {count} candidates, {reason}" for reason, count in sorted(self.refused.items())]
        return "\n".join(lines)


def close_map(
    path: Path,
    features: FeatureExtractor,
    held: Collection[int] = (),
    params: LoopParams = DEFAULT_PARAMS,
    on_place: Callable[[], object] = lambda: None,
) -> Closing:
    """Find the loops of a map and correct it in place, in one transaction; a map without loops is left as it is.

    Args:
        held: ids of the sessions whose poses stay. Others are closed with them and with one another.
        on_place: called for each place that was looked at.

    Raises:
        UserError: as `find_closing`; the map cannot be written.
    """
    place_map = read_map(path)
    closing = find_closing(place_map, features, held, params, on_place)
    if closing.correction is not None:
        write_correction(place_map, closing.correction)
    return closing


def find_closing(
    place_map: PlaceMap,
    features: FeatureExtractor,
    held: Collection[int] = (),
    params: LoopParams = DEFAULT_PARAMS,
    on_place: Callable[[], object] = lambda: None,
) -> Closing:
    """What `close_map` would do; nothing is written.

    Args:
        held: as for `close_map`. The others are taken to begin where the map has them, as appending and merging see to.

    Raises:
        UserError: a map without metres, or with the poses of GPS; its odometry cannot be read.
    """
    _check(place_map)
    stays = np.isin(place_map.sessions, list(held))
    odometry = odometry_of(place_map, stays)
    closer = LoopCloser(place_map.path, place_map.header, features, params, aligned=bool(stays.any()))
    for row in in_order(place_map):
        place = place_of(place_map, row, odometry[int(place_map.ids[row])])
        if stays[row]:
            closer.know(place)
        else:
            closer.take(place)
            on_place()
    closer.finish()
    return solve_closing(place_map, closer, odometry, stays)


def solve_closing(
    place_map: PlaceMap, closer: LoopCloser, odometry: Mapping[int, StoredOdometry], stays: npt.NDArray[np.bool_]
) -> Closing:
    """The poses that the closures found so far lead to.

    Args:
        place_map: the places that the closer took; places that stay have the poses of the map there.
        odometry: of each place, as measured.
        stays: (N,) rows of the map whose poses stay.
    """
    looked_at = int((~stays).sum())
    edges, stated = closer.edges()
    pieces = Pieces.of(place_map, edges, closer.closures, stays)
    nothing = Closing(looked_at, frozenset(), (), closer.refused, stated, pieces.count, 0.0, None)
    if not closer.closures:
        return nothing
    positions, rotations = pieces.start({number: one.pose for number, one in odometry.items()})
    solution = solve(place_map.ids, positions, rotations, edges, closer.closures, pieces.held, closer.is_planar)
    closures = tuple(
        replace(closure, weight=float(weight))
        for closure, weight in zip(closer.closures, solution.weights, strict=True)
    )
    believed = {closure.run for closure in closures if closure.weight >= BELIEVED}
    closed = frozenset(place for place, run in closer.closed.items() if run in believed)
    moving = np.flatnonzero(~stays)
    largest = np.linalg.norm(solution.positions[moving] - place_map.base_poses()[0][moving], axis=1).max()
    kept = {number: odometry[number] for number in place_map.ids[moving].tolist()}
    correction = Correction(moving, solution.positions[moving], solution.rotations[moving], kept, closures)
    return replace(nothing, closed=closed, closures=closures, largest_m=float(largest), correction=correction)


def _check(place_map: PlaceMap) -> None:
    if not place_map.header.metric:
        raise UserError(f"map {place_map.path} is a sequence without metres: it has no poses to correct")
    if place_map.header.origin is not None:
        raise UserError(
            f"map {place_map.path} has its poses from GPS, which does not drift: closing loops would bend it; build it "
            "from odometry with --pose-topic to close its loops"
        )


def in_order(place_map: PlaceMap) -> list[int]:
    """The rows of a map as its drives went: one session after the other."""
    return [int(row) for row in np.lexsort((place_map.ids, place_map.sessions))]


def odometry_of(place_map: PlaceMap, stays: npt.NDArray[np.bool_]) -> dict[int, StoredOdometry]:
    """By id of the place, its pose as measured: what the map keeps of it, else its pose in the map.

    Args:
        stays: (N,) rows whose pose in the map counts in any case.

    Raises:
        UserError: what the map keeps is no odometry.
    """
    with connect(place_map.path) as connection:
        measured = read_odometry(connection, place_map.path)
    odometry = {}
    for row, number in enumerate(place_map.ids.tolist()):
        in_map = StoredOdometry(place_map.camera_pose(row), place_map.covariance(row))
        odometry[number] = in_map if stays[row] else measured.get(number, in_map)
    return odometry


def place_of(place_map: PlaceMap, row: int, odometry: StoredOdometry) -> Place:
    """A row of a map as the closer takes it."""
    camera = int(place_map.cameras[row])
    return Place(
        int(place_map.ids[row]),
        int(place_map.sessions[row]),
        camera,
        place_map.camera_table[camera],
        int(place_map.stamps_ns[row]),
        odometry.pose,
        place_map.descriptors[row],
        odometry.covariance,
    )
