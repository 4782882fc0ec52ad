"""How the frames of two maps lie to each other: every odometry starts at its own zero, so it is never guessed."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import frame_in
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.deep import WHOLE_RANGE
from d2vpr_ros.mapping.align import align
from d2vpr_ros.mapping.header import MapHeader
from d2vpr_ros.mapping.place_map import PlaceMap

log = logging.getLogger(__name__)

_HEIGHTS_DIFFER_M = 5.0  # GPS heights of two days differ by some metres
_ON_EACH_OTHER, _FEWEST = 3.0, 10  # spacings; places

ALIGN = "align"
SAME_FRAME = "same frame"
ODOMETRY_FRAME = "odom"

Frames = Pose | str | None
"""What the user says of two frames: T_map_other, ALIGN, SAME_FRAME, or nothing, which leaves the earth to tell."""


def check_frames(header: MapHeader, other: MapHeader, named: str, frames: Frames) -> None:
    """Refuse frames that cannot be joined as stated, as far as it shows before any place is looked at.

    Args:
        header, other: of the map and of what is to join it; `named` names both.

    Raises:
        UserError: naming the ways there are; or what is stated contradicts the maps.
    """
    if header.image_range != other.image_range:
        ranges = " and ".join("{} to {}".format(*each.image_range or WHOLE_RANGE) for each in (header, other))
        raise UserError(f"{named}: 16-bit images have the ranges {ranges}; build both with one --image-range")
    if header.metric != other.metric:
        raise UserError(f"{named}: one has places in metres, the other is a sequence map; build both alike")
    if not header.metric:
        if frames is not None:
            raise UserError(f"{named}: sequences without metres have no frames to join; leave the option out")
    elif frames == SAME_FRAME:
        if header.frame != other.frame:
            raise UserError(
                f"{named}: --same-frame, but the poses are in '{header.frame}' and in '{other.frame}'; "
                "give the transform with --transform, or compute it with --align"
            )
        if header.frame == ODOMETRY_FRAME:
            raise UserError(
                f"{named}: --same-frame, but both poses are in '{ODOMETRY_FRAME}', which has another origin in every "
                "drive (REP-105); compute the transform with --align, or give it with --transform"
            )
        if header.origin and other.origin and header.origin != other.origin:
            raise UserError(
                f"{named}: --same-frame, but their origins are different points of the earth; leave --same-frame out, "
                "then they are joined through WGS-84"
            )
    elif frames is None and not (header.origin and other.origin):
        raise UserError(
            f"{named}: the transform between their frames is unknown. Four ways: poses of both from GPS (WGS-84, no "
            "option needed), --same-frame (both have poses in one SLAM map), --transform X Y Z QX QY QZ QW (pose of "
            "the second frame in the first), --align (computed from places that look alike)"
        )


def find_transform(place_map: PlaceMap, other: PlaceMap, frames: Frames) -> tuple[Pose, str]:
    """T_map_other, and in words where it is from.

    Raises:
        UserError: as `check_frames` and `align`.
    """
    check_frames(place_map.header, other.header, f"{place_map.path} and {other.path}", frames)
    if isinstance(frames, Pose):
        return frames, "as stated"
    if frames == ALIGN:
        alignment = align(place_map, other)
        return alignment.transform, f"aligned: {alignment}"
    if frames == SAME_FRAME or not place_map.header.metric:
        transform, how = Pose.identity(), "as they are"
    else:
        transform, how = _through_the_earth(place_map, other), "through WGS-84"
    higher_m = height_between(place_map, other, transform)
    if higher_m is not None and abs(higher_m) > _HEIGHTS_DIFFER_M:
        side = "above" if higher_m > 0 else "below"
        log.warning(
            "%s: its places are %.1f m %s those of %s in the common part; one has heights above the ellipsoid, the "
            "other above the sea (the geoid), or the heights of a receiver are wrong; this makes localization worse",
            ", ".join(session.name for session in other.session_table.values()), abs(higher_m), side, place_map.path,
        )  # fmt: skip
    return transform, how


def height_between(place_map: PlaceMap, other: PlaceMap, transform: Pose) -> float | None:
    """How much higher the other map's places lie, metres: the median where they lie on each other on the ground; None
    where hardly any do.

    Args:
        transform: T_map_other.
    """
    if not place_map.header.metric:
        return None
    at = transform.rotation.apply(other.positions) + transform.position
    reach = _ON_EACH_OTHER * max(place_map.spacing_m, other.spacing_m, 1.0)
    gaps, rows = cKDTree(place_map.positions[:, :2]).query(at[:, :2])
    near = gaps <= reach
    if near.sum() < _FEWEST:
        return None
    return float(np.median(at[near, 2] - place_map.positions[rows[near], 2]))


def _through_the_earth(place_map: PlaceMap, other: PlaceMap) -> Pose:
    origin, other_origin = place_map.header.origin, other.header.origin
    assert origin is not None and other_origin is not None
    if not all(np.isfinite(each.geo[:, 2]).any() for each in (place_map, other)):
        # Heights are not known on one side, where the origin's stands for nothing: the other's are kept as they are.
        origin, other_origin = replace(origin, altitude=0.0), replace(other_origin, altitude=0.0)
    return frame_in(origin, other_origin)
