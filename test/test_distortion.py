"""A lens that bends lines: its points are compared where a pinhole camera would have them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from d2vpr_ros.localize.distortion import known_distortion, undistorted
from d2vpr_ros.localize.verification import compare, extract
from hypothesis import given
from hypothesis import strategies as st
from test_verification import degrees_off, places, renderer, seen

from d2vpr_ros.geometry import Pose

__all__ = ["places", "renderer"]  # fixtures

BARREL = (-0.32, 0.11, 0.001, -0.0005, -0.015)
RATIONAL = (-0.1, 0.02, 0.0005, 0.0, 0.001, 0.15, 0.03, 0.002)


def through_lens(picture, k, d):
    """What a camera with this distortion would show of the picture of a pinhole camera."""
    height, width = picture.shape[:2]
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 1, 2).astype(np.float64)
    from_where = cv2.undistortPoints(pixels, k, np.array(d), P=k).reshape(height, width, 2).astype(np.float32)
    return cv2.remap(picture, from_where[..., 0], from_where[..., 1], cv2.INTER_CUBIC)


@pytest.mark.parametrize("d", [BARREL, RATIONAL])
def test_bent_pictures_agree_in_more_points_and_tell_how_the_camera_turned(renderer, places, d):
    k, inliers, off = renderer.camera_matrix, np.zeros(2, int), []
    for place in places:
        query = place @ Pose.planar(0.0, 1.5, np.radians(5.0))
        bent, stored = through_lens(seen(renderer, query), k, d), extract(seen(renderer, place), k)
        corrected, ignored = compare(extract(bent, k, d), stored), compare(extract(bent, k), stored)
        inliers += corrected.inliers, ignored.inliers
        if corrected.rotation is not None:
            off.append(degrees_off(corrected.rotation, place, query))
    assert inliers[0] > inliers[1]
    assert len(off) >= 3 and np.median(off) < 2.0


@pytest.mark.parametrize("d", [BARREL, RATIONAL])
def test_points_come_to_where_a_pinhole_camera_has_them(d):
    k = np.array([[250.0, 0.0, 160.0], [0.0, 250.0, 120.0], [0.0, 0.0, 1.0]])
    rays = np.column_stack([np.random.default_rng(1).uniform(-0.55, 0.55, (100, 2)), np.ones(100)])
    bent, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), k, np.array(d))
    straight, good = undistorted(bent.reshape(-1, 2).astype(np.float32), k, d)
    assert good.all()
    assert np.abs(straight - (rays @ k.T)[:, :2]).max() < 0.1


def test_only_models_that_are_known_are_corrected():
    assert known_distortion("plumb_bob", [0.0] * 5) == known_distortion("", ()) == ()
    assert known_distortion("plumb_bob", BARREL) == BARREL
    assert known_distortion("rational_polynomial", RATIONAL) == RATIONAL
    assert known_distortion("equidistant", [0.1, 0.0, 0.0, 0.0]) is None
    assert known_distortion("plumb_bob", [0.1, np.nan, 0.0, 0.0, 0.0]) is None
    assert known_distortion("plumb_bob", [0.1]) is None


@given(
    d=st.lists(st.floats(allow_nan=True), min_size=1, max_size=14),
    model=st.sampled_from(["plumb_bob", "rational_polynomial"]),
)
def test_whatever_a_camera_info_says_a_point_is_right_or_left_out(d, model):
    known = known_distortion(model, d)
    if known is None:
        return
    points = np.random.default_rng(0).uniform(0, 320, (20, 2)).astype(np.float32)
    straight, good = undistorted(points, np.diag([200.0, 200.0, 1.0]), known)
    assert np.isfinite(straight[good]).all()
