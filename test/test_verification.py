"""Do two pictures show one place: pictures of the simulated town, and ones that show nothing."""

from __future__ import annotations

import numpy as np
import pytest
from d2vpr_ros.localize.verification import compare, extract, extract_stored
from hypothesis import given, settings
from hypothesis import strategies as st

from d2vpr_ros.geometry import Pose, scale_camera_matrix
from d2vpr_ros.mapping.picture import encode_picture
from d2vpr_ros.sim.conditions import CONDITIONS
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.routes import sample_places
from d2vpr_ros.sim.town import build_town

CHANCE = 30  # inliers that two unrelated pictures reach now and then


@pytest.fixture(scope="module")
def renderer():
    town = build_town(7)
    renderer = Renderer(320, 240)
    renderer.load(town, CONDITIONS["noon"])
    return renderer


@pytest.fixture(scope="module")
def places():
    return sample_places(build_town(7), np.random.default_rng(4), 4)


def seen(renderer, base):
    return renderer.render(base @ CAMERA_MOUNT)


def degrees_off(found, place, query):
    """Between the rotation found and the true one of T_place_query, optical frames."""
    truth = (place @ CAMERA_MOUNT).rotation.inv() * (query @ CAMERA_MOUNT).rotation
    return np.degrees((truth.inv() * found).magnitude())


def test_one_place_seen_from_beside_agrees_and_other_streets_do_not(renderer, places):
    stored = [extract_stored(encode_picture(seen(renderer, place))) for place in places]
    beside = [extract(seen(renderer, place @ Pose.planar(0.5, 1.5, 0.05))) for place in places]
    inliers = np.array([[compare(query, place).inliers for place in stored] for query in beside])
    assert inliers.diagonal().min() > 2 * CHANCE
    assert (inliers - np.diag(inliers.diagonal())).max() < CHANCE


@pytest.mark.parametrize("yaw_deg", [-20.0, -7.0, 0.0, 12.0])
def test_how_the_camera_turned_is_found_within_two_degrees(renderer, places, yaw_deg):
    k = renderer.camera_matrix
    turned = places[0] @ Pose.planar(0.0, 0.0, np.radians(yaw_deg))
    found = compare(extract(seen(renderer, turned), k), extract(seen(renderer, places[0]), k))
    assert found.rotation is not None
    assert degrees_off(found.rotation, places[0], turned) < 2.0


def test_how_the_camera_turned_is_found_from_beside_too(renderer, places):
    k = renderer.camera_matrix
    stored = extract_stored(encode_picture(seen(renderer, places[0])), k)
    for side_m, yaw_deg in [(1.5, -10.0), (-1.5, 15.0)]:
        query = places[0] @ Pose.planar(0.0, side_m, np.radians(yaw_deg))
        found = compare(extract(seen(renderer, query), k), stored)
        assert found.rotation is not None
        assert degrees_off(found.rotation, places[0], query) < 3.0


def test_images_of_twice_the_size_give_the_same_rotation(places):
    large = Renderer(640, 480)
    large.load(build_town(7), CONDITIONS["noon"])
    turned = places[0] @ Pose.planar(0.0, 0.0, 0.2)
    small_k = scale_camera_matrix(large.camera_matrix, 0.5, 0.5)
    stored = extract_stored(encode_picture(seen(large, places[0])), small_k)
    found = compare(extract(seen(large, turned), large.camera_matrix), stored)
    assert found.rotation is not None
    assert degrees_off(found.rotation, places[0], turned) < 2.0


def test_without_both_intrinsics_inliers_are_the_same_and_there_is_no_rotation(renderer, places):
    picture, k = seen(renderer, places[0]), renderer.camera_matrix
    known = compare(extract(picture, k), extract(picture, k))
    assert known.rotation is not None
    for unknown in (None, np.zeros((3, 3)), np.full((3, 3), np.nan), np.diag([1.0, 1.0, 0.0])):
        for pair in [(k, unknown), (unknown, k)]:
            found = compare(extract(picture, pair[0]), extract(picture, pair[1]))
            assert (found.inliers, found.rotation) == (known.inliers, None)


def test_the_same_pictures_always_give_the_same_result(renderer, places):
    k = renderer.camera_matrix
    query, place = seen(renderer, places[0] @ Pose.planar(1.0, 1.0, 0.1)), seen(renderer, places[0])
    first, second = (compare(extract(query, k), extract(place, k)) for _ in range(2))
    assert (first.inliers, first.matches) == (second.inliers, second.matches)
    assert first.rotation is not None and second.rotation is not None
    np.testing.assert_array_equal(first.rotation.as_quat(), second.rotation.as_quat())


def test_a_damaged_picture_verifies_nothing(renderer, places):
    picture = seen(renderer, places[0])
    jpeg = encode_picture(picture)
    for stored in (b"", b"no picture", jpeg[:30], jpeg[2:], jpeg[:-2][100:], b"\x89PNG\r\n\x1a\n" + b"\xff" * 30):
        found = compare(extract(picture), extract_stored(stored))
        assert (found.inliers, found.matches, found.rotation) == (0, 0, None)
    half = compare(extract(picture), extract_stored(jpeg[: len(jpeg) // 2]))
    assert 0 <= half.inliers <= half.matches


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (31, 400), (32, 32), (33, 3000), (2000, 40), (240, 320)])
def test_pictures_that_show_nothing_verify_nothing(shape):
    rows, columns = np.indices(shape)
    k = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
    for values in (
        np.zeros(shape),
        np.full(shape, 255),
        columns % 256,
        rows % 256,
        (columns // 8 + rows // 8) % 2 * 255,
    ):
        picture = np.repeat(values[..., None], 3, axis=2).astype(np.uint8)
        found = compare(extract(picture, k), extract(np.ascontiguousarray(picture[:, ::-1]), k))
        assert found.inliers < CHANCE


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 260), st.integers(20, 340), st.integers(1, 3))
def test_noise_agrees_by_chance_only(seed, height, width, grain):
    random = np.random.default_rng(seed)
    k = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
    coarse = random.integers(0, 256, (2, height // grain + 1, width // grain + 1, 3), dtype=np.uint8)
    query, place = coarse.repeat(grain, axis=1).repeat(grain, axis=2)[:, :height, :width]
    found = compare(extract(query, k), extract(place, k))
    assert found.inliers <= found.matches
    assert found.inliers < CHANCE
    assert found.rotation is None
