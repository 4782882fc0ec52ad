"""Several cameras on one robot, one belief: each is compared with what it would see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from places import IDENTITY, SECOND, WIDTH, Describes, alike_along_the_way, changed, straight_street, unit_rows
from scipy.spatial.transform import Rotation

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, turn
from d2vpr_ros.localize import Acceptance, Estimate, Localizer, LocalizerOptions, State
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map

STREET = 60
FRONT = Pose.of(0.3, 0.0, 1.0, *FORWARD_MOUNT.quaternion)
LEFT = Pose(np.array([0.1, 0.2, 1.0]), (Rotation.from_euler("z", 90, degrees=True) * FRONT.rotation).as_quat())
MOUNTS = {"front": FRONT, "left": LEFT}


def street(path: Path, *names: str, metric: bool = True) -> PlaceMap:
    """A street along x, seen by these cameras: the places of one after those of the other."""
    header = MapHeader(IDENTITY, WIDTH, "map", 1.0, None, metric=metric)
    with create_map(path, header) as writer:
        session = writer.begin_session(Session("street"))
        for seed, name in enumerate(names, start=4):
            camera = writer.add_camera(session, Camera(name, 6, 4, MOUNTS[name]))
            descriptors = alike_along_the_way(STREET, seed, WIDTH)
            for number, (base, seen) in enumerate(zip(straight_street(STREET), descriptors, strict=True)):
                writer.add_place(session, camera, NewPlace(number * SECOND, base @ MOUNTS[name], seen))
    return read_map(path)


@pytest.fixture(scope="module")
def place_map(tmp_path_factory: pytest.TempPathFactory) -> PlaceMap:
    return street(tmp_path_factory.mktemp("maps") / "m.d2map", "front", "left")


@pytest.fixture
def localizer(place_map: PlaceMap) -> Localizer:
    found = Localizer(place_map, Describes())
    found.use_mounts((FRONT, LEFT))
    return found


def drive(localizer: Localizer, images: list[tuple[int, int, float]], with_odometry: bool = True) -> list[Estimate]:
    """Images as (camera, row of the place it sees, metres down the street), half a second apart."""
    seen = changed(localizer.map.descriptors[[row for _, row, _ in images]], 0.5)
    return [
        localizer.match(
            descriptor,
            number * SECOND // 2,
            Pose.planar(metres, 3.0, 0.0) if with_odometry else None,
            camera=camera,
        )
        for number, ((camera, _, metres), descriptor) in enumerate(zip(images, seen, strict=True))
    ]


def in_turn(first: int, last: int) -> list[tuple[int, int, float]]:
    """Both cameras at each metre, at one time."""
    return [(camera, camera * STREET + metre, float(metre)) for metre in range(first, last) for camera in (0, 1)]


@pytest.mark.parametrize("with_odometry", [True, False])
def test_the_images_of_both_cameras_are_answered_with_the_same_base(localizer: Localizer, with_odometry: bool) -> None:
    images = in_turn(10, 35)
    estimates = drive(localizer, images, with_odometry)
    for (camera, row, metres), estimate in list(zip(images, estimates, strict=True))[20:]:
        assert estimate.state is State.LOCALIZED and estimate.pose is not None
        assert distance(estimate.pose, Pose.planar(metres, 0.0, 0.0)) < 1.0
        assert turn(estimate.pose, Pose.identity()) < 1e-3
        assert estimate.camera == camera
        assert abs(estimate.matches[0].row - row) <= 1


def test_a_robot_that_stands_across_the_street_sees_ahead_what_was_mapped_aside(localizer: Localizer) -> None:
    seen = changed(localizer.map.descriptors[[STREET + metre for metre in range(40, 20, -1)]], 0.5)
    wheels = [Pose.planar(0.0, float(metre), 1.0) for metre in range(20)]
    estimates = [localizer.match(d, number * SECOND, wheels[0], camera=0) for number, d in enumerate(seen)]
    assert all(estimate.state is not State.LOCALIZED for estimate in estimates)  # contradicts the wheels
    localizer.reset()
    heading = np.pi / 2  # sideways down the street, as a drone goes
    estimates = [
        localizer.match(d, number * SECOND, Pose.planar(-float(number), 0.0, heading), camera=0)
        for number, d in enumerate(seen)
    ]
    pose = estimates[-1].pose
    assert pose is not None
    assert turn(pose, Pose.planar(0.0, 0.0, heading)) < 0.1


def test_without_odometry_one_camera_is_known_to_look_as_the_place_did_that_it_resembles(
    place_map: PlaceMap,
) -> None:
    """Nothing but the image tells ahead from aside in a map that has both at one spot."""
    localizer = Localizer(place_map, Describes())
    localizer.use_mount(FRONT)
    estimates = drive(localizer, [(0, metre, float(metre)) for metre in range(10, 30)], with_odometry=False)
    localized = [estimate.pose for estimate in estimates if estimate.pose is not None]
    assert len(localized) > 10
    assert max(turn(pose, Pose.identity()) for pose in localized) < 1e-3


def test_two_cameras_at_a_standstill_add_no_evidence(localizer: Localizer) -> None:
    images = [(number % 2, number % 2 * STREET + 30, 30.0) for number in range(40)]
    assert all(estimate.state is not State.LOCALIZED for estimate in drive(localizer, images))
    localizer.reset()
    still = localizer.map.descriptors[[30, STREET + 30]]
    states = {localizer.match(still[n % 2], n * SECOND // 30, camera=n % 2).state for n in range(40)}
    assert State.LOCALIZED not in states


@pytest.mark.parametrize("with_odometry", [True, False])
def test_a_camera_that_sees_nothing_of_the_map_does_not_disturb_the_one_that_does(
    tmp_path: Path, with_odometry: bool
) -> None:
    sure_enough = LocalizerOptions(acceptance=Acceptance(0.95))  # half of all images show nothing
    localizer = Localizer(street(tmp_path / "m.d2map", "front"), Describes(), sure_enough)
    localizer.use_mounts((FRONT, LEFT))
    assert localizer.cameras.coverage == (1.0, 0.0)
    seen, aside = changed(localizer.map.descriptors, 0.5), unit_rows(STREET, seed=77)
    ahead: list[Estimate] = []
    for metre in range(10, 40):
        pose = Pose.planar(float(metre), 3.0, 0.0) if with_odometry else None
        ahead.append(localizer.match(seen[metre], metre * SECOND, pose, camera=0))
        beside = localizer.match(aside[metre], metre * SECOND, pose, camera=1)
        assert beside.pose is None or distance(beside.pose, Pose.planar(float(metre), 0.0, 0.0)) < 1.0
    assert {one.state for one in ahead[10:]} == {State.LOCALIZED}


@pytest.mark.parametrize("with_odometry", [True, False])
def test_it_hardly_matters_which_of_two_images_of_one_time_comes_first(
    localizer: Localizer, with_odometry: bool
) -> None:
    images = in_turn(10, 30)
    last = []
    for order in (images, [pair for at in range(0, len(images), 2) for pair in (images[at + 1], images[at])]):
        localizer.reset()
        seen = changed(localizer.map.descriptors[[row for _, row, _ in images]], 0.5)
        looks = dict(zip(images, seen, strict=True))
        for camera, row, metres in order:
            pose = Pose.planar(metres, 0.0, 0.0) if with_odometry else None
            stamp_ns = round(metres * SECOND)
            answer = localizer.match(looks[camera, row, metres], stamp_ns, pose, camera=camera)
        last.append(answer)
    assert last[0].pose is not None and last[1].pose is not None
    assert distance(last[0].pose, last[1].pose) < 0.1
    assert last[0].probability == pytest.approx(last[1].probability, abs=0.005)


def test_several_cameras_need_a_map_with_metres(tmp_path: Path) -> None:
    localizer = Localizer(street(tmp_path / "m.d2map", "front", metric=False), Describes())
    with pytest.raises(UserError, match=r"has no metres, so it cannot bring several cameras together"):
        localizer.use_mounts((FRONT, LEFT))
