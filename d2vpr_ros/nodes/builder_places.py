"""From an image that has its pose to a place of the map that is built."""

from __future__ import annotations

from d2vpr_ros.bags.covariance import moved
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.decode import read_frame
from d2vpr_ros.images.deep import Range
from d2vpr_ros.images.frame import PosedFrame
from d2vpr_ros.mapping import MapBuilder
from d2vpr_ros.mapping.counts import NO_POSE, UNREADABLE
from d2vpr_ros.nodes.live_gps import GpsPoses, LiveFixes
from d2vpr_ros.nodes.poses import LivePoses
from d2vpr_ros.nodes.waiting import Arrival


def add_image(
    builder: MapBuilder,
    arrival: Arrival,
    name: str,
    poses: LivePoses,
    mount: Pose | None,
    fixes: LiveFixes | None,
    max_gap_s: float,
    image_range: Range | None,
) -> str:
    """Hand an image to the builder if it is due; what became of it is counted there.

    Args:
        name: of its camera; empty takes that of its frame.
        mount: T_base_cameraOptical, None where nobody knows it.
        fixes: for latitude and longitude of the place.

    Returns:
        Why it cannot be read, in words; empty if it can.
    """
    found = poses.at(arrival.stamp_ns, max_gap_s)
    if found is None:
        builder.counts.leave_out(NO_POSE)
        return ""
    if mount is None:
        builder.counts.leave_out("before the mount of the camera was known")
        return ""
    base, covariance = found
    pose, name = base @ mount, name or str(arrival.message.header.frame_id)
    if not builder.keep(name, pose, arrival.stamp_ns):
        return ""
    try:
        frame = read_frame(arrival.message, name, image_range)
    except UserError as error:
        builder.counts.leave_out(UNREADABLE)
        return str(error)
    if covariance is not None:
        covariance = moved(covariance, pose.position - base.position)
    geo = poses.geo(pose) if isinstance(poses, GpsPoses) else None
    if fixes is not None:
        geo = fixes.at(arrival.stamp_ns, max_gap_s)
    builder.add(PosedFrame(frame, pose, geo, covariance), wait=False)
    return ""
