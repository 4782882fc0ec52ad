"""Pictures are compared where that decides: they turn a guess into an answer, or take an answer back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from d2vpr_ros.localize.agreement import LEAST, MOST
from d2vpr_ros.localize.calibration import Calibration, Calibrations
from places import alike_along_the_way, straight_street, unit_rows

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import FORWARD_MOUNT
from d2vpr_ros.localize import Estimate, Localizer, LocalizerOptions, RejectReason, State
from d2vpr_ros.localize.types import Verify
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.picture import encode_picture
from d2vpr_ros.mapping.store import NewPlace, create_map

SECOND = 1_000_000_000
STREET = 60
NOISE = 1.0
PICTURES_DECIDE = Calibration(mass=0.0, excess=0.0, images=0.0, scatter=0.0, agreement=8.0, bias=-26.0)
DOUBTFUL = Calibration(mass=0.0, excess=0.0, images=0.0, scatter=0.0, agreement=0.0, bias=1.0)
SURE = replace(DOUBTFUL, bias=20.0)
HARDLY_SURE = replace(DOUBTFUL, bias=4.8)  # probability 0.992


def picture(number: int) -> npt.NDArray[np.uint8]:
    """(120, 160, 3): a scene of its own."""
    cells = np.random.default_rng(number).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(cells, (160, 120), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return Extractor.open("nano")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory, extractor: Extractor) -> PlaceMap:
    return make_street(tmp_path_factory.mktemp("map") / "street.d2map", extractor)


def make_street(path: Path, extractor: Extractor, *, pictures: bool = True) -> PlaceMap:
    descriptors = alike_along_the_way(STREET, seed=4, width=extractor.width)
    with create_map(path, MapHeader(extractor.identity, extractor.width, "map", 1.0)) as writer:
        session = writer.begin_session(Session("street"))
        camera = writer.add_camera(session, Camera("front", 160, 120, FORWARD_MOUNT))
        for number, pose in enumerate(straight_street(STREET)):
            jpeg = encode_picture(picture(number)) if pictures else None
            place = NewPlace(number * SECOND, pose @ FORWARD_MOUNT, descriptors[number], jpeg)
            writer.add_place(session, camera, place)
    return read_map(path)


def localizer(street: PlaceMap, extractor: Extractor, alone: Calibration, verify: Verify) -> Localizer:
    found = Localizer(street, extractor, LocalizerOptions(verify=verify))
    found.judge.calibrations = Calibrations(without_odometry=alone, without_odometry_compared=PICTURES_DECIDE)
    return found


def drive(localizer: Localizer, *, seen: int = 0) -> list[Estimate]:
    """Past the places 10 to 39, one a second, without odometry; `seen` shifts whose pictures are seen."""
    rows = list(range(10, 40))
    descriptors = localizer.map.descriptors[rows] + NOISE * unit_rows(len(rows), 9, localizer.extractor.width)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return [
        localizer.match(descriptor, number * SECOND, rgb=picture(row + seen))
        for number, (row, descriptor) in enumerate(zip(rows, descriptors, strict=True))
    ]


ELSEWHERE = 1000


def test_pictures_that_agree_make_an_answer_of_a_doubt(street: PlaceMap, extractor: Extractor) -> None:
    alone = drive(localizer(street, extractor, DOUBTFUL, Verify.NEVER))
    compared = drive(localizer(street, extractor, DOUBTFUL, Verify.WHEN_IT_DECIDES))
    assert not any(one.state is State.LOCALIZED for one in alone)
    assert all(one.state is State.LOCALIZED for one in compared[5:])
    assert any(match.inliers > 20 for one in compared for match in one.matches)
    assert all(match.inliers == 0 for one in alone for match in one.matches)


def test_pictures_that_disagree_take_an_answer_back_that_was_hardly_sure(
    street: PlaceMap, extractor: Extractor
) -> None:
    alone = drive(localizer(street, extractor, HARDLY_SURE, Verify.NEVER), seen=ELSEWHERE)
    compared = drive(localizer(street, extractor, HARDLY_SURE, Verify.WHEN_IT_DECIDES), seen=ELSEWHERE)
    assert all(one.state is State.LOCALIZED for one in alone[5:])
    assert {one.reject_reason for one in compared[5:]} == {RejectReason.VERIFICATION_FAILED}


def test_by_night_pictures_agree_little_and_an_answer_that_is_sure_without_them_stands(
    street: PlaceMap, extractor: Extractor
) -> None:
    compared = drive(localizer(street, extractor, SURE, Verify.WHEN_IT_DECIDES), seen=ELSEWHERE)
    assert all(one.state is State.LOCALIZED for one in compared[5:])


def test_of_a_single_image_pictures_decide(street: PlaceMap, extractor: Extractor) -> None:
    robot = Localizer(street, extractor, LocalizerOptions(sequence=False))
    robot.judge.calibrations = Calibrations(single_image=SURE, single_image_compared=PICTURES_DECIDE)
    assert {one.reject_reason for one in drive(robot, seen=ELSEWHERE)} == {RejectReason.VERIFICATION_FAILED}
    assert all(one.state is State.LOCALIZED for one in drive(robot))


def test_agreement_is_a_mean_along_the_way(street: PlaceMap, extractor: Extractor) -> None:
    robot = localizer(street, extractor, DOUBTFUL, Verify.ALWAYS)
    before = drive(robot)[-1].agreement
    descriptor = street.descriptors[40]
    after = robot.match(descriptor, 30 * SECOND, rgb=picture(ELSEWHERE)).agreement
    robot.reset()
    anew = robot.match(descriptor, 31 * SECOND, rgb=picture(ELSEWHERE)).agreement
    assert before is not None and after is not None and anew is not None
    assert LEAST <= anew < after < before <= MOST


def test_a_map_without_pictures_is_used_without_comparing(tmp_path: Path, extractor: Extractor) -> None:
    bare = make_street(tmp_path / "bare.d2map", extractor, pictures=False)
    estimates = drive(localizer(bare, extractor, SURE, Verify.ALWAYS))
    assert estimates[-1].state is State.LOCALIZED
    assert all(one.agreement is None for one in estimates)


def test_what_cannot_change_is_not_compared(street: PlaceMap, extractor: Extractor) -> None:
    first = drive(localizer(street, extractor, DOUBTFUL, Verify.WHEN_IT_DECIDES))[0]
    assert first.reject_reason is RejectReason.UNCONFIRMED  # one image is too few, whatever it shows
    assert first.agreement is None
    hopeless = localizer(street, extractor, DOUBTFUL, Verify.WHEN_IT_DECIDES)
    hopeless.judge.calibrations = replace(hopeless.judge.calibrations, without_odometry_compared=DOUBTFUL)
    assert all(one.agreement is None for one in drive(hopeless))
