"""Drive a robot through a town and record what its sensors see as a rosbag2."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.sim.conditions import Condition, condition_named
from d2vpr_ros.sim.layout import Town
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.routes import length, loop
from d2vpr_ros.sim.sensors import GPS_SIGMA_M, fixes, odometry, poses, slam_poses
from d2vpr_ros.sim.town import build_town

START_NS = 1_767_261_600 * 10**9  # the first drive: 2026-01-01 10:00 UTC; each sensor_seed starts an hour later
ODOMETRY_HZ = 20.0
SLAM_HZ = 10.0
GPS_HZ = 2.0
WIDEST_OFFSET_M = 2.5  # farther aside the robot would meet parked cars

IMAGE, CAMERA_INFO = "/camera/image", "/camera/camera_info"
ODOM, GPS, SLAM, TRUTH = "/odom", "/gps/fix", "/slam/pose", "/ground_truth/pose"
CAMERA_FRAME = "camera_optical_frame"

Event = tuple[int, Callable[[], None]]


@dataclass(frozen=True)
class DriveSummary:
    """What was recorded."""

    path: Path
    images: int
    duration_s: float
    length_m: float


def drive_way(centre: Array, times: Array, speed_mps: float, lateral_offset_m: float) -> Array:
    """(N, 3) x, y, yaw at times along a closed (M, 2) way, `lateral_offset_m` to the left of it."""
    closed = np.vstack([centre, centre[:1]])
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    ahead = np.roll(centre, -1, axis=0) - np.roll(centre, 1, axis=0)
    heading = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))
    turns = 2 * np.pi * round((heading[-1] - heading[0]) / (2 * np.pi))  # a whole turn a lap, one way or the other
    heading = np.append(heading, heading[0] + turns)
    travelled = times * speed_mps
    at, laps = travelled % s[-1], travelled // s[-1]
    yaw = np.interp(at, s, heading) + laps * turns
    x = np.interp(at, s, closed[:, 0]) - lateral_offset_m * np.sin(yaw)
    y = np.interp(at, s, closed[:, 1]) + lateral_offset_m * np.cos(yaw)
    return np.stack([x, y, yaw], axis=1)


def _check(name: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:
        raise UserError(f"{name} {value:g}: expected {low:g} to {high:g} {unit}")


def record_drive(
    out: str | Path,
    seed: int,
    condition: str | Condition = "noon",
    *,
    lateral_offset_m: float = 0.0,
    speed_mps: float = 5.0,
    rate_hz: float = 5.0,
    laps: float = 1.0,
    duration_s: float | None = None,
    route: int = 0,
    reverse: bool = False,
    compressed: bool = False,
    width: int = 320,
    height: int = 240,
    sensor_seed: int | None = None,
    way: Array | None = None,
    town: Town | None = None,
    later: str | Condition | None = None,
    show_progress: bool = False,
) -> DriveSummary:
    """Record one drive around a loop of a town.

    Topics: /camera/image (or /camera/image/compressed), /camera/camera_info, /odom (T_odom_base, with drift), /tf
    (odom to base_link), /tf_static (base_link to camera_optical_frame), /gps/fix, /slam/pose and /ground_truth/pose
    (T_map_base). The way, the pictures and the noise follow from the arguments: the same call records the same drive.

    Args:
        out: the bag's directory; must not exist.
        seed: of the town (`town.seed_purpose`).
        condition: a name of `conditions.CONDITIONS`, or one of your own.
        lateral_offset_m: how far to the left of the street's middle.
        rate_hz: of the images.
        laps: of the loop; `duration_s` instead where given.
        route: which loop (`routes.loop`).
        reverse: clockwise.
        sensor_seed: of the noise; by default the condition's moved_objects, so that drives differ.
        way: (M, 2) closed way to drive instead of a loop (`routes.tour`).
        town: to drive through instead of the seed's.
        later: condition of the second half of the drive.

    Raises:
        UserError: an argument out of range, an unknown condition, `out` exists, or nothing to draw with.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"{out}: exists already; choose another name or remove it")
    _check("lateral offset", lateral_offset_m, -WIDEST_OFFSET_M, WIDEST_OFFSET_M, "m")
    _check("speed", speed_mps, 0.2, 20.0, "m/s")
    _check("rate", rate_hz, 0.1, 60.0, "Hz")
    _check("laps", laps, 0.01, 100.0, "laps")
    _check("width", width, 16, 4096, "pixels")
    _check("height", height, 16, 4096, "pixels")
    if isinstance(condition, str):
        condition = condition_named(condition)
    if isinstance(later, str):
        later = condition_named(later)
    town = build_town(seed) if town is None else town
    centre = (loop(town, route) if way is None else way)[:: -1 if reverse else 1]
    duration = laps * length(centre) / speed_mps if duration_s is None else duration_s
    _check("duration", duration, 1.0, 36000.0, "s")
    noise = condition.moved_objects if sensor_seed is None else sensor_seed
    _check("sensor seed", noise, 0, 2**31, "(a whole number)")
    rng = np.random.Generator(np.random.PCG64([seed, noise]))
    start_ns = START_NS + noise % 1000 * 3600 * 10**9

    def every(rate: float) -> tuple[Array, list[int], Array]:
        """Seconds, stamps and the way at so many a second."""
        times = np.asarray(np.arange(0.0, duration, 1.0 / rate), dtype=np.float64)
        stamps = [start_ns + round(t * 1e9) for t in times]
        return times, stamps, drive_way(centre, times, speed_mps, lateral_offset_m)

    with closing(Renderer(width, height)) as renderer, BagWriter(out, compressed) as bag:
        renderer.load(town, condition)
        bag.transform(start_ns, "base_link", CAMERA_FRAME, CAMERA_MOUNT, static=True)
        events: list[Event] = []
        times, stamps, driven = every(ODOMETRY_HZ)
        for stamp, reading, pose in zip(stamps, odometry(rng, times, driven), poses(driven), strict=True):
            events.append(
                (
                    stamp,
                    partial(
                        bag.odometry, ODOM, stamp, "odom", "base_link", reading.pose, reading.twist, reading.covariance
                    ),
                )
            )
            events.append((stamp, partial(bag.transform, stamp, "odom", "base_link", reading.pose, static=False)))
            events.append((stamp, partial(bag.pose, TRUTH, stamp, "map", pose)))
        times, stamps, driven = every(SLAM_HZ)
        for stamp, pose in zip(stamps, slam_poses(rng, times, driven), strict=True):
            events.append((stamp, partial(bag.pose, SLAM, stamp, "map", pose)))
        times, stamps, driven = every(GPS_HZ)
        for stamp, (latitude, longitude, altitude) in zip(stamps, fixes(rng, times, driven).tolist(), strict=True):
            events.append((stamp, partial(bag.fix, GPS, stamp, "gps", latitude, longitude, altitude, GPS_SIGMA_M)))
        _, stamps, driven = every(rate_hz)

        def change() -> None:
            if later is not None:
                renderer.load(town, later)

        events.append((stamps[len(stamps) // 2], change))

        def take(stamp: int, base: Pose) -> None:
            picture = renderer.render(base @ CAMERA_MOUNT)
            bag.image(IMAGE, stamp, picture, CAMERA_FRAME)
            bag.camera_info(CAMERA_INFO, stamp, CAMERA_FRAME, renderer.camera_matrix, width, height)
            bar.update()

        events += [(stamp, partial(take, stamp, base)) for stamp, base in zip(stamps, poses(driven), strict=True)]
        with tqdm(total=len(stamps), unit="image", disable=None if show_progress else True) as bar:
            for _, record in sorted(events, key=lambda event: event[0]):
                record()
    return DriveSummary(out, len(stamps), float(duration), float(duration * speed_mps))
