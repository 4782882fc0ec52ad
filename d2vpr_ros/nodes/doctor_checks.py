"""What `d2vpr doctor` makes of what it heard: one line for each thing, and what to do about it. No ROS here."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from d2vpr_ros.localize.odometry import is_base
from d2vpr_ros.nodes.doctor_facts import (
    CameraInfoFacts,
    GpsFacts,
    ImageFacts,
    OdometryFacts,
    SimTime,
    Stream,
)
from d2vpr_ros.nodes.doctor_lines import Line, fail, ok, warn

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
ODOMETRY = "nav_msgs/msg/Odometry"
NAVSATFIX = "sensor_msgs/msg/NavSatFix"

_CLOCKS_DIFFER_S = 60.0  # as the localizer's StampWatch: beyond, stamps only order the images
_FUTURE_S = 0.1
_APART_S = 1.0  # between odometry and images
_SLOWEST_IMAGES_HZ, _SLOWEST_ODOMETRY_HZ = 1.0, 5.0


def check_image(
    image: ImageFacts, others: Sequence[str], listened_s: float, max_age_s: float, sim: SimTime
) -> list[Line]:
    """Type, senders, rate, stamps and encoding of one image topic.

    Args:
        others: the image topics there are.
        listened_s: how long was listened.
        max_age_s: the localizer's parameter.
    """
    stream = image.stream
    lines = _check_senders(stream, (IMAGE, COMPRESSED_IMAGE), _known(others), listened_s)
    if not stream.stamps_ns:
        return lines
    lines.append(_check_rate(stream, _SLOWEST_IMAGES_HZ, "set a higher image rate"))
    lines.append(_check_stamps(stream, max_age_s, sim))
    if image.size is None:
        return [*lines, fail(f"{stream.topic}: {image.trouble}", "give it another encoding in the camera driver")]
    width, height = image.size
    return [*lines, ok(f"{stream.topic}: {width} x {height}, {image.encoding}", _how_to_launch(stream))]


def check_odometry(
    odometry: OdometryFacts | None,
    topics: Sequence[str],
    base_frame: str,
    images: Sequence[ImageFacts],
    listened_s: float,
    top_speed_mps: float,
) -> list[Line]:
    """Odometry: senders, rate, frames, speed, and its stamps against those of the images.

    Args:
        top_speed_mps: the localizer's parameter.
    """
    if odometry is None:
        if topics:
            named = ", ".join(topics)
            return [warn(f"odometry: several topics or none called odom: {named}", f"choose one: --odom {topics[0]}")]
        return [
            warn(
                "odometry: no topic of type nav_msgs/msg/Odometry",
                "start wheel or visual odometry; without it set top_speed_mps and expect few answers",
            )
        ]
    stream = odometry.stream
    lines = _check_senders(stream, (ODOMETRY,), _known(topics), listened_s)
    if not stream.stamps_ns:
        return lines
    lines.append(_check_rate(stream, _SLOWEST_ODOMETRY_HZ, "publish it at 10 Hz or more"))
    if not odometry.is_pose:
        lines.append(fail(f"{stream.topic}: its pose holds NaN or no rotation", "repair the odometry driver"))
    lines.append(_check_frames(odometry, base_frame))
    if odometry.mixed:
        named = ", ".join((f"{stream.frame_id} -> {odometry.child_frame_id}", *odometry.mixed))
        lines.append(fail(f"{stream.topic}: mixes {named}", "give each publisher a topic of its own"))
    if odometry.speed_mps > top_speed_mps:
        lines.append(
            warn(
                f"{stream.topic}: {odometry.speed_mps:.1f} m/s, more than top_speed_mps ({top_speed_mps:g})",
                f"set top_speed_mps:={1.5 * odometry.speed_mps:.1f}, or the robot is lost when odometry fails",
            )
        )
    if (back_s := max_step_back_s(stream)) > 1.0:
        lines.append(
            fail(
                f"{stream.topic}: its stamps went back by {back_s:.1f} s",
                "one publisher per topic; after a reset of a simulator the localizer restarts by itself",
            )
        )
    for image in images:
        if image.stream.ages_s:
            apart_s = statistics.median(stream.ages_s) - statistics.median(image.stream.ages_s)
            side = "behind" if apart_s > 0 else "ahead of"
            if abs(apart_s) > _APART_S:
                lines.append(
                    fail(
                        f"{stream.topic}: its stamps are {abs(apart_s):.1f} s {side} those of {image.stream.topic}",
                        "use one clock for both (chrony between computers), and use_sim_time for all nodes or none",
                    )
                )
    return lines


def max_step_back_s(stream: Stream) -> float:
    """How far the stamps went back at most, from one message to the next."""
    steps = (a - b for a, b in itertools.pairwise(stream.stamps_ns))
    return max(0.0, max(steps, default=0) * 1e-9)


def _check_frames(odometry: OdometryFacts, base_frame: str) -> Line:
    topic, child = odometry.stream.topic, odometry.child_frame_id
    if child.lstrip("/") == base_frame:
        return ok(f"{topic}: {odometry.stream.frame_id} -> {child}")
    if odometry.on_base:
        return ok(f"{topic}: {odometry.stream.frame_id} -> {child}, moved to {base_frame} by the transform between")
    if is_base(child.lstrip("/"), base_frame):
        return warn(
            f"{topic}: moves '{child}', assumed to be '{base_frame}'",
            f"publish the transform between them, or set base_frame:={child or 'NAME'}",
        )
    return fail(
        f"{topic}: moves '{child}', and tf has no transform to '{base_frame}': it is left out",
        f"publish that transform, or set base_frame:={child}",
    )


def check_camera_info(info: CameraInfoFacts, image: ImageFacts) -> Line:
    """Intrinsics: there, calibrated, and of the images' shape."""
    if not info.heard:
        return warn(
            f"{info.topic}: no CameraInfo beside {image.stream.topic}",
            "publish it for corrected headings; everything else works without",
        )
    if info.size is None:
        return warn(
            f"{info.topic}: the camera is not calibrated (K is 0)", "ros2 run camera_calibration cameracalibrator"
        )
    if image.size is not None and abs(info.size[0] * image.size[1] / (info.size[1] * image.size[0]) - 1) > 0.02:
        return warn(
            f"{info.topic}: is for {info.size[0]} x {info.size[1]}, the images are {image.size[0]} x {image.size[1]}",
            "calibrate for the images that are published",
        )
    return ok(f"{info.topic}: calibrated, {info.size[0]} x {info.size[1]}")


def check_gps(gps: GpsFacts | None, listened_s: float, least_radius_m: float) -> list[Line]:
    """GPS: whether it has a fix, where no vehicle can be, and where it is against the map.

    Args:
        least_radius_m: the localizer's parameter gps_gate_least_m.
    """
    if gps is None:
        return []
    topic = gps.stream.topic
    lines = _check_senders(gps.stream, (NAVSATFIX,), "", listened_s)
    if gps.null_island:
        said = f"{topic}: {gps.null_island} messages at 0 N 0 E, sent by receivers without a fix"
        lines.append(warn(said, "wait until it has one; such messages are left out"))
    if gps.without:
        lines.append(warn(f"{topic}: {gps.without} messages have no fix", "wait until it has one"))
    if gps.jumps_m:
        lines.append(
            warn(f"{topic}: jumps by {gps.jumps_m:.0f} m, too far for a vehicle", "one receiver per topic; its antenna")
        )
    if not gps.fixes:
        return lines
    sigma_m = gps.fixes[-1].sigma_m
    exact = "without covariance" if sigma_m is None else f"exact to {sigma_m:.1f} m"
    if gps.to_map_m is None:
        return [*lines, ok(f"{topic}: has a fix, {exact}")]
    away = f"{gps.to_map_m:.0f} m from the nearest place of the map"
    if gps.to_map_m > least_radius_m:
        cure = "use a map of this place, or set use_gps:=false if the receiver is wrong"
        return [*lines, warn(f"{topic}: {away}", cure)]
    return [*lines, ok(f"{topic}: {exact}, {away}")]


def check_topics_without_one(topics: Sequence[tuple[str, str]], domain: str) -> list[Line]:
    """The image topics to choose from, where none was named."""
    if not topics:
        return [
            fail(
                f"images: no image topic in ROS domain {domain}",
                "start the camera driver; if it runs, compare ROS_DOMAIN_ID, RMW_IMPLEMENTATION and ROS_LOCALHOST_ONLY",
            )
        ]
    return [ok(f"images: {name} ({kind})", f"d2vpr doctor --topic {name}") for name, kind in topics]


def _check_senders(stream: Stream, expected: Sequence[str], known: str, listened_s: float) -> list[Line]:
    """Type, quality of service, and whether anything came."""
    topic = stream.topic
    if not stream.types:
        return [fail(f"{topic}: no publisher", known or "start its publisher")]
    if not set(stream.types) & set(expected):
        return [
            fail(f"{topic}: is {', '.join(stream.types)}; expected {' or '.join(expected)}", known or "choose another")
        ]
    lines = [
        fail(
            f"{topic}: {sender.node} has QoS that the localizer cannot receive: {sender.refused}",
            "change the publisher's QoS to reliable, volatile",
        )
        for sender in stream.senders
        if sender.refused
    ]
    if len(stream.senders) > 1:
        names = ", ".join(sender.node for sender in stream.senders)
        lines.append(warn(f"{topic}: {len(stream.senders)} publishers mix on it: {names}", "give each its own topic"))
    if not stream.stamps_ns and not lines:
        lines.append(
            fail(
                f"{topic}: no message in {listened_s:.0f} s",
                f"ros2 topic hz {topic}; if they come there, see 'Images are lost' in docs/troubleshooting.md",
            )
        )
    return lines


def _check_rate(stream: Stream, slowest_hz: float, advice: str) -> Line:
    if len(stream.stamps_ns) == 1:
        return warn(f"{stream.topic}: one message only", advice)
    said = f"{stream.topic}: {stream.rate_hz:.1f} messages/s"
    return ok(said) if stream.rate_hz >= slowest_hz else warn(said, advice)


def _check_stamps(stream: Stream, max_age_s: float, sim: SimTime) -> Line:
    topic, age_s = stream.topic, statistics.median(stream.ages_s)
    if not any(stream.stamps_ns):
        return fail(f"{topic}: stamps are 0", "set header.stamp in the driver")
    if sim.wanted and not sim.published:
        return fail(f"{topic}: use_sim_time is true, but /clock has no publisher", "ros2 bag play --clock 100 ...")
    if abs(age_s) > _CLOCKS_DIFFER_S:
        play = "" if sim.published else "ros2 bag play --clock 100 ..., and "
        cure = "take images and /clock from one recording" if sim.wanted else f"{play}set use_sim_time:=true"
        return warn(f"{topic}: stamps are {_span(age_s)} {'old' if age_s > 0 else 'in the future'}: a recording?", cure)
    if any(b <= a for a, b in zip(stream.stamps_ns, stream.stamps_ns[1:], strict=False)):
        return warn(
            f"{topic}: stamps repeat or go back", "use one publisher per topic, and a driver that stamps each image"
        )
    if age_s > max_age_s:
        return fail(
            f"{topic}: images are {age_s:.1f} s old, more than max_age_s ({max_age_s:g})",
            "find the delay (network, compression), synchronise the clocks with chrony, or set a higher max_age_s",
        )
    if age_s < -_FUTURE_S:
        return warn(f"{topic}: stamps are {-age_s:.1f} s in the future", "synchronise the clocks with chrony")
    return ok(f"{topic}: {age_s * 1e3:.0f} ms from stamp to here")


def _how_to_launch(stream: Stream) -> str:
    compressed = COMPRESSED_IMAGE in stream.types
    base = stream.topic.removesuffix("/compressed") if compressed else stream.topic
    return f"image_topic:={base}" + (" image_transport:=compressed" if compressed else "")


def _known(topics: Sequence[str]) -> str:
    return f"there is: {', '.join(topics)}" if topics else ""


def _span(seconds: float) -> str:
    size = abs(seconds)
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if size >= 2 * length:
            return f"{size / length:.0f} {unit}"
    return f"{size:.0f} s"
