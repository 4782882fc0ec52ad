"""What is true of an image, and whether what the localizer said of it is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.stream import Drive
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.scoring import ScoredQuery, metres_between
from d2vpr_ros.geodesy import frame_in
from d2vpr_ros.geometry import Pose, turn
from d2vpr_ros.localize import Estimate, Localizer

Array = npt.NDArray[np.float64]
Right = npt.NDArray[np.bool_]

Judge = Callable[[str, Estimate], ScoredQuery | None]
"""Asked with the camera's name and what the localizer said of its image; None where the truth of that is not known."""


def judge_by_pose(localizer: Localizer, drive: Drive, radius_m: float, tolerance_deg: float | None) -> Judge:
    """By poses of the robot's base in the map's frame.

    In a map whose frame lies on the earth only what is horizontal counts: GPS hardly knows heights.

    Args:
        drive: whose poses are the truth.
        tolerance_deg: an answer turned further than this is wrong; None lets any be right.

    Raises:
        UserError: the map has no metres, or the poses are in another frame than the map's.
    """
    place_map = localizer.map
    into_map = _into_map(localizer, drive)
    bases = [place_map.base_poses(mount) for mount in localizer.cameras.mounts]
    horizontal = place_map.header.origin is not None
    axes = 2 if horizontal else 3

    def right_of(positions: Array, rotations: Array, truth: Pose) -> Right:
        rows: Right = np.linalg.norm((positions - truth.position)[:, :axes], axis=1) <= radius_m
        return rows if tolerance_deg is None else rows & (_turned_deg(rotations, truth) <= tolerance_deg)

    def judge(camera: str, estimate: Estimate) -> ScoredQuery | None:
        seen_by = drive.cameras[camera]
        at = seen_by.pose_at(estimate.stamp_ns, drive.max_gap_s)
        if at is None:
            return None
        truth = into_map @ at @ seen_by.mount.inverse()
        of_cameras = [right_of(positions, rotations, truth) for positions, rotations in bases]
        said = _said(localizer, estimate, of_cameras[estimate.camera])
        said = replace(
            said, answerable=any(bool(rows.any()) for rows in of_cameras), truth=truth, horizontal=horizontal
        )
        answer = estimate.pose or _would_be(localizer, estimate)
        if answer is None:
            return said
        off = metres_between(answer, truth, horizontal=horizontal)
        turned_deg = np.degrees(turn(answer, truth))
        right = off <= radius_m and (tolerance_deg is None or bool(turned_deg <= tolerance_deg))
        return replace(said, right=right, off=off)

    return judge


def judge_by_number(
    localizer: Localizer, numbers: Mapping[int, float], place_numbers: Array, radius_frames: float
) -> Judge:
    """By numbers along the drive, where nobody knows metres.

    Args:
        numbers: of the images, by stamp.
        place_numbers: (N,) of the map's places; NaN where it has none.
    """

    def judge(camera: str, estimate: Estimate) -> ScoredQuery | None:
        number = numbers.get(estimate.stamp_ns)
        if number is None:
            return None
        off = np.abs(place_numbers - number)
        best = float(off[estimate.matches[0].row]) if estimate.matches else np.nan
        scored = _said(localizer, estimate, off <= radius_frames)
        return replace(scored, right=best <= radius_frames, off=best if np.isfinite(best) else None, answer=None)

    return judge


def judge_off_map(localizer: Localizer) -> Judge:
    """Of a drive where the map is not: every answer is wrong."""
    nowhere = np.zeros(len(localizer.map), bool)
    return lambda camera, estimate: replace(_said(localizer, estimate, nowhere), answer=None)


def _said(localizer: Localizer, estimate: Estimate, right_rows: Right) -> ScoredQuery:
    """What the localizer said, without what depends on the kind of truth."""
    best = estimate.matches[0] if estimate.matches else None  # GPS may leave no place that comes into question
    return ScoredQuery(
        estimate.stamp_ns,
        answerable=bool(right_rows.any()),
        accepted=best is not None and best.accepted,  # a map without metres is answered with a place alone
        found=tuple(bool(right_rows[match.row]) for match in estimate.matches),
        probability=estimate.probability,
        place_id=None if best is None else int(localizer.map.ids[best.row]),
        answer=estimate.pose,
        covariance=estimate.covariance,
        state=estimate.state.value,
        reject_reason=estimate.reject_reason.value,
        similarity=None if best is None else best.similarity,
    )


def _would_be(localizer: Localizer, estimate: Estimate) -> Pose | None:
    """T_map_base that the localizer would have answered, had it been surer; None where no place came into question."""
    standing = estimate.standing
    if standing is None:
        return None
    mount = localizer.cameras.mounts[estimate.camera]
    return replace(localizer.map.base_pose(standing.best, mount), position=standing.position)


def _turned_deg(rotations: Array, truth: Pose) -> Array:
    """(N,) angles of the rotations (N, 3, 3) to the true one."""
    cosines = (np.einsum("nij,ij->n", rotations, truth.rotation.as_matrix()) - 1) / 2
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1, 1))))


def _into_map(localizer: Localizer, drive: Drive) -> Pose:
    """T_map_truth, which only the earth can tell where they are not one frame already."""
    place_map = localizer.map
    if not place_map.header.metric:
        raise UserError(f"map {place_map.path} has no metres, so poses cannot be compared; use --truth index")
    origin, other = place_map.header.origin, drive.origin
    if (origin is None) != (other is None):
        here, there = (f"in the frame '{place_map.header.frame}'", f"from {drive.pose_source}, which is GPS")
        if origin is not None:
            here, there = ("from GPS", f"from {drive.pose_source}, in the frame '{drive.frame_id}'")
        raise UserError(
            f"{drive.bag.path}: the map's poses are {here}, the truth is {there}: the transform between the two is "
            "unknown; choose a truth in the frame of the map with --truth-topic, or use --truth index"
        )
    return Pose.identity() if origin is None or other is None else frame_in(origin, other)
