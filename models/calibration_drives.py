"""The drives that calibrations are fitted on: through towns and through floors of a tower, described once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.pose_topics import trajectory_from_bag
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.verification import Features, extract_stored
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.keyframes import KeyframeRule, KeyframeSelector
from d2vpr_ros.mapping.picture import encode_picture
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.sim.drive import record_drive
from models.data import read_rgb, tower_pictures

Array = npt.NDArray[np.float64]

SEEDS = (500, 501, 502)
CONDITIONS = ("dusk", "night", "snow")
FLOORS = ("floor7", "floor14", "floor20", "floor10", "floor12", "basement0", "floor5", "floor3")
"""The network was not trained on the first three."""
MAP_CONDITION, ASIDE_M, RATE_HZ = "noon", 1.5, 2.5


@dataclass(frozen=True, eq=False)
class Described:
    """A drive as the localizer sees it: (N, D) descriptors, (N,) stamps, (N, 7) poses, N pictures."""

    descriptors: npt.NDArray[np.float32]
    stamps_ns: npt.NDArray[np.int64]
    odometry: Array
    slam: Array
    truth: Array
    pictures: list[bytes]

    @cached_property
    def features(self) -> list[Features]:
        return [extract_stored(jpeg) for jpeg in self.pictures]

    def part(self, first: int) -> Described:
        """Every other image from the first on."""
        return Described(
            self.descriptors[first::2],
            self.stamps_ns[first::2],
            self.odometry[first::2],
            self.slam[first::2],
            self.truth[first::2],
            self.pictures[first::2],
        )


def described_town(cache: Path, extractor: Extractor, seed: int, condition: str, aside_m: float) -> Described:
    """Record and describe a drive, or take it from the cache."""
    name = f"{seed}_{condition}_{aside_m:g}"
    bag_path = cache / name
    if not bag_path.exists():
        record_drive(bag_path, seed, condition, lateral_offset_m=aside_m, rate_hz=RATE_HZ, compressed=True)
    with open_bag(bag_path) as bag:
        tracks = [trajectory_from_bag(bag, topic) for topic in ("/odom", "/slam/pose", "/ground_truth/pose")]
        posed = list(open_drive(bag, pose_topic="/slam/pose").frames())
    stamps = np.array([one.frame.stamp_ns for one in posed])
    odometry, slam, truth = (
        np.array([pose.numbers if (pose := track.at(int(stamp), 1.0)) else [np.nan] * 7 for stamp in stamps])
        for track in tracks
    )
    images = [one.frame.rgb for one in posed]
    descriptors = described(cache / name, extractor, images)
    return Described(descriptors, stamps, odometry, slam, truth, [encode_picture(rgb) for rgb in images])


def described(name: Path, extractor: Extractor, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """Descriptors, from the cache where they are known."""
    identity = extractor.identity
    known = name.with_name(f"{name.name}.{identity.weights_sha256[:8]}.{identity.projection[:8]}.npy")
    if not known.exists():
        np.save(known, extractor.describe(images))
    return np.asarray(np.load(known), np.float32)


def described_floor(cache: Path, extractor: Extractor, footage: Path, floor: str) -> Described:
    """A walk through a floor of the tower, a picture a second, as if on a line at a metre a second."""
    images = [read_rgb(picture.path) for picture in tower_pictures(footage) if picture.floor == floor]
    poses = np.zeros((len(images), 7))
    poses[:, 0], poses[:, 6] = np.arange(len(images)), 1.0
    stamps = np.arange(len(images)) * 1_000_000_000
    pictures = [encode_picture(rgb) for rgb in images]
    return Described(described(cache / floor, extractor, images), stamps, poses, poses, poses, pictures)


def as_map(cache: Path, name: str, extractor: Extractor, drive: Described) -> PlaceMap:
    """A map of a drive's keyframes, by the poses of its SLAM."""
    path = cache / f"{name}.d2map"
    path.unlink(missing_ok=True)
    wanted = KeyframeSelector(KeyframeRule(1.0))
    with create_map(path, MapHeader(extractor.identity, extractor.width, "map", 1.0)) as writer:
        session = writer.begin_session(Session(name))
        camera = writer.add_camera(session, Camera("camera", 320, 240, Pose.identity()))
        for number, numbers in enumerate(drive.slam):
            stamp = int(drive.stamps_ns[number])
            if np.isfinite(numbers).all() and wanted.wants(Pose.of(*numbers), stamp):
                wanted.take(Pose.of(*numbers), stamp)
                place = NewPlace(stamp, Pose.of(*numbers), drive.descriptors[number], drive.pictures[number])
                writer.add_place(session, camera, place)
    return read_map(path)


@dataclass(frozen=True, eq=False)
class Drives:
    """All drives: through the towns for the maps and for the queries, by seed and condition, and through the floors."""

    noon: dict[int, Described]
    queries: dict[tuple[int, str], Described]
    floors: dict[str, Described]


def all_drives(cache: Path, extractor: Extractor, footage: Path | None) -> Drives:
    """Rendered and described, or from the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    return Drives(
        {seed: described_town(cache, extractor, seed, MAP_CONDITION, 0.0) for seed in SEEDS},
        {
            (seed, condition): described_town(cache, extractor, seed, condition, ASIDE_M)
            for seed in SEEDS
            for condition in CONDITIONS
        },
        {floor: described_floor(cache, extractor, footage, floor) for floor in FLOORS} if footage else {},
    )
