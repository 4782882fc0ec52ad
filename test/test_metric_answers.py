"""By its pictures a map of a street gives metric answers: from one image by day, and none where it shows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from d2vpr_ros.bags.calibration import Calibration
from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.localize import Estimate, Localizer, LocalizerOptions, State, Verify
from d2vpr_ros.localize.types import DEFAULT_OPTIONS
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.picture import encode_picture
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.multiview import PlaceGeometry
from d2vpr_ros.sim.conditions import condition_named
from d2vpr_ros.sim.drive import drive_way
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.routes import loop
from d2vpr_ros.sim.sensors import poses
from d2vpr_ros.sim.town import build_town

SECOND = 1_000_000_000
TOWN, OTHER_TOWN = 7, 8
STEP_M, PLACES = 2.0, 30
ASIDE_M = 0.8
CHI_SQUARE = 13.8  # of two degrees of freedom at 99.9 %
MAPPED_M = STEP_M * (PLACES - 1)

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class View:
    """An image, its descriptor and its true T_map_base."""

    rgb: Picture
    descriptor: npt.NDArray[np.float32]
    at: Pose


@dataclass(frozen=True, eq=False)
class Town:
    """A mapped street, and what a robot sees in another light 0.8 m beside its way.

    Attributes:
        along: each 3 m, beside the mapped stretch and on past its end; elsewhere: of another town.
    """

    place_map: PlaceMap
    extractor: Extractor
    geometry: PlaceGeometry
    calibration: Calibration
    along: list[View]
    elsewhere: list[View]


def seen_along(renderer: Renderer, town: int, metres: Sequence[float], aside_m: float) -> list[tuple[Pose, Picture]]:
    bases = poses(drive_way(loop(build_town(town)), np.array(metres), 1.0, aside_m))
    return [(base, renderer.render(base @ CAMERA_MOUNT)) for base in bases]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    with closing(Renderer(320, 240)) as renderer:
        k = renderer.camera_matrix
        renderer.load(build_town(TOWN), condition_named("noon"))
        mapped = seen_along(renderer, TOWN, [STEP_M * number for number in range(PLACES)], 0.0)
        renderer.load(build_town(TOWN), condition_named("overcast"))
        along = seen_along(renderer, TOWN, np.arange(1.0, MAPPED_M + 20.0, 3.0).tolist(), ASIDE_M)
        renderer.load(build_town(OTHER_TOWN), condition_named("noon"))
        elsewhere = seen_along(renderer, OTHER_TOWN, np.arange(0.0, 30.0, 3.0).tolist(), 0.0)
    extractor = Extractor.open("nano", device="cpu")
    described = iter(extractor.describe([rgb for _, rgb in [*mapped, *along, *elsewhere]]))
    header = MapHeader(extractor.identity, extractor.width, "map", STEP_M)
    path = tmp_path_factory.mktemp("town") / "street.d2map"
    with create_map(path, header) as writer:
        session = writer.begin_session(Session("noon"))
        camera = writer.add_camera(session, Camera("front", 320, 240, CAMERA_MOUNT, tuple(k.reshape(-1).tolist())))
        for number, (base, rgb) in enumerate(mapped):
            place = NewPlace(number * SECOND, base @ CAMERA_MOUNT, next(described), encode_picture(rgb))
            writer.add_place(session, camera, place)
    place_map = read_map(path)
    geometry = PlaceGeometry(place_map, FeatureExtractor.open(device="cpu"))
    views = [[View(rgb, next(described), base) for base, rgb in part] for part in (along, elsewhere)]
    return Town(place_map, extractor, geometry, Calibration(320, 240, tuple(k.reshape(-1).tolist())), *views)


def localizer_of(town: Town, options: LocalizerOptions = DEFAULT_OPTIONS, *, lens: bool = True) -> Localizer:
    found = Localizer(town.place_map, town.extractor, options, geometry=town.geometry)
    found.use_calibration(town.calibration if lens else None)
    return found


def see(localizer: Localizer, views: Sequence[View], *, odometry: bool, first_s: int = 0) -> list[Estimate]:
    """An image a second, three metres on; the odometry begins somewhere and goes on through whatever happens."""
    if odometry:
        ahead = Pose.planar(3.0, 0.0, 0.0)
        moved = [Pose.identity()]
        for before, after in pairwise(views):
            step = before.at.inverse() @ after.at
            moved.append(moved[-1] @ (step if distance(step, Pose.identity()) < 10.0 else ahead))
    return [
        localizer.match(view.descriptor, (first_s + number) * SECOND, moved[number] if odometry else None, rgb=view.rgb)
        for number, view in enumerate(views)
    ]


def off(views: Sequence[View], estimates: Sequence[Estimate]) -> list[float | None]:
    """Metres off of each answer on the ground, None without one."""
    return [
        None if one.pose is None else float(np.linalg.norm((one.pose.position - view.at.position)[:2]))
        for view, one in zip(views, estimates, strict=True)
    ]


def mapped(town: Town) -> list[View]:
    ends = len([metre for metre in np.arange(1.0, MAPPED_M + 20.0, 3.0) if metre <= MAPPED_M])
    return town.along[:ends]


def one_by_one(localizer: Localizer, views: Sequence[View]) -> list[Estimate]:
    """Each image as the first of a robot."""
    answers = []
    for view in views:
        localizer.reset()
        answers += see(localizer, [view], odometry=False)
    return answers


@pytest.mark.parametrize(("off_map_prior", "least"), [(0.0, 0.9), (0.5, 0.2)])
def test_by_day_one_image_of_a_mapped_street_gives_a_pose_to_decimetres(
    town: Town, off_map_prior: float, least: float
) -> None:
    """With so few places none stands out as in a town: a robot that may be elsewhere often needs a second image."""
    views = mapped(town)
    answers = one_by_one(localizer_of(town, LocalizerOptions(off_map_prior=off_map_prior)), views)
    errors = [error for error in off(views, answers) if error is not None]
    assert len(errors) >= least * len(views)
    assert max(errors) < 0.5
    for view, one in zip(views, answers, strict=True):
        if one.pose is not None and one.covariance is not None:
            assert turn(one.pose, view.at) < np.radians(3)
            error = (one.pose.position - view.at.position)[:2]
            assert error @ np.linalg.inv(one.covariance[:2, :2]) @ error < CHI_SQUARE, "the truth within its covariance"


def test_the_map_s_own_camera_does_where_nobody_says_which_lens_the_robot_has(town: Town) -> None:
    views = mapped(town)[:6]
    errors = off(views, see(localizer_of(town, lens=False), views, odometry=True))
    assert None not in errors[1:]
    assert max(error for error in errors if error is not None) < 0.5


@pytest.mark.parametrize("odometry", [True, False])
def test_who_drives_past_the_last_place_is_silent_as_soon_as_its_landmarks_are_out_of_sight(
    town: Town, odometry: bool
) -> None:
    estimates = see(localizer_of(town), town.along, odometry=odometry)
    errors, last = off(town.along, estimates), len(mapped(town))
    assert None not in errors[2:last]
    assert errors[last + 2 :] == [None] * (len(town.along) - last - 2)
    assert max(error for error in errors if error is not None) < 0.5, "what is answered past the end is right there"


@pytest.mark.parametrize("odometry", [True, False])
def test_a_robot_that_was_carried_along_the_street_is_found_within_two_images(town: Town, odometry: bool) -> None:
    views = mapped(town)
    views = views[:6] + views[13:18]
    errors = off(views, see(localizer_of(town), views, odometry=odometry))
    assert None not in errors[7:]
    assert max(error for error in errors if error is not None) < 0.5, "the old place is no answer"


@pytest.mark.parametrize("odometry", [True, False])
def test_another_town_is_not_answered(town: Town, odometry: bool) -> None:
    estimates = see(localizer_of(town), town.elsewhere, odometry=odometry)
    assert all(one.pose is None for one in estimates)
    assert estimates[-1].probability < 0.01


@pytest.mark.parametrize("odometry", [True, False])
def test_a_robot_that_was_carried_to_another_town_gets_no_answer_there(town: Town, odometry: bool) -> None:
    before = mapped(town)[:6]
    estimates = see(localizer_of(town), [*before, *town.elsewhere], odometry=odometry)
    assert estimates[5].state is State.LOCALIZED
    assert all(one.pose is None for one in estimates[6:])


def test_without_comparing_pictures_the_answer_is_the_place(town: Town) -> None:
    """A lane aside is not seen by descriptors: the error stays about that, and within the covariance."""
    views = mapped(town)
    estimates = see(localizer_of(town, LocalizerOptions(verify=Verify.NEVER, off_map_prior=0.0)), views, odometry=True)
    errors = [error for error in off(views, estimates) if error is not None]
    assert len(errors) > len(views) / 2
    assert 0.4 < float(np.median(errors)) < 2 * STEP_M
    for view, one in zip(views, estimates, strict=True):
        assert not any(match.inliers for match in one.matches)
        if one.pose is not None and one.covariance is not None:
            error = (one.pose.position - view.at.position)[:2]
            assert error @ np.linalg.inv(one.covariance[:2, :2]) @ error < CHI_SQUARE
