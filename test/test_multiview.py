"""Geometry on scenes that are known to the last digit: lenses, adjustment, resection, focal lengths, two views."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.multiview.adjustment import Priors, Scene, adjust, triangulate
from d2vpr_ros.multiview.focal import Focal, Pair, focal_from_landmarks, focal_from_poses, joined
from d2vpr_ros.multiview.lens import Lens, lens_of, plain_lens
from d2vpr_ros.multiview.matching import align, mutual_matches
from d2vpr_ros.multiview.params import DEFAULT_PARAMS
from d2vpr_ros.multiview.resection import Ground, Matched, resect
from d2vpr_ros.multiview.two_view import epipolar_distances, fundamental_inliers
from d2vpr_ros.multiview.view import View, levelled

Array = npt.NDArray[np.float64]

WIDTH, HEIGHT = 320, 240
K = (190.0, 0.0, 159.5, 0.0, 190.0, 119.5, 0.0, 0.0, 1.0)
DISTORTIONS = {
    "": (),
    "plumb_bob": (-0.2, 0.05, 0.001, -0.001, 0.0),
    "rational_polynomial": (0.1, -0.02, 0.001, 0.0, 0.01, 0.02, -0.01, 0.001),
    "equidistant": (0.01, -0.002, 0.001, 0.0),
}


def street_points(count: int, seed: int = 0) -> Array:
    """(count, 3) points of two house fronts ahead of a camera at the origin that looks along x."""
    draw = np.random.default_rng(seed)
    side = draw.choice([-1.0, 1.0], count)
    return np.column_stack([draw.uniform(6, 35, count), side * draw.uniform(4, 8, count), draw.uniform(-1, 6, count)])


def seen_by(pose: Pose, points: Array) -> Array:
    """(N, 2) rays x/z, y/z to points of the map from T_map_camera."""
    inside = pose.inverse().rotation.apply(points - pose.position)
    return np.asarray(inside[:, :2] / inside[:, 2:])


def camera_at(x: float, y: float, yaw: float) -> Pose:
    return Pose.planar(x, y, yaw) @ FORWARD_MOUNT


def blank_view(lens: Lens | None) -> View:
    """A view of which only lens and size count."""
    nothing = np.zeros((0, 2), np.float32)
    return View(nothing, np.zeros((0, 64), np.float32), np.zeros((HEIGHT, WIDTH), np.uint8), lens)


def matched_from(pose: Pose, points: Array, lens: Lens, noise_px: float = 0.0, seed: int = 1) -> Matched:
    pixels = lens.pixels(seen_by(pose, points)) + np.random.default_rng(seed).normal(0, noise_px, (len(points), 2))
    covariances = np.repeat(np.eye(3)[None] * 1e-4, len(points), axis=0)
    return Matched(pixels.astype(np.float32), np.arange(len(points)), points, covariances, len(points))


# Lenses


@pytest.mark.parametrize("model", DISTORTIONS)
@given(x=st.floats(20, 299), y=st.floats(20, 219))
@settings(deadline=None, max_examples=30)
def test_a_ray_goes_back_to_its_pixel(model: str, x: float, y: float) -> None:
    lens = lens_of(K, WIDTH, HEIGHT, model, DISTORTIONS[model])
    assert lens is not None
    rays, good = lens.rays(np.array([[x, y]], np.float32))
    assert good.all()
    assert np.allclose(lens.pixels(rays), [[x, y]], atol=0.05)


@pytest.mark.parametrize(
    ("k", "size", "model", "d"),
    [
        (None, (WIDTH, HEIGHT), "", ()),
        ((0.0,) * 9, (WIDTH, HEIGHT), "", ()),  # an uncalibrated driver
        ((np.nan, *K[1:]), (WIDTH, HEIGHT), "", ()),
        ((1e6, *K[1:]), (WIDTH, HEIGHT), "", ()),
        (K, (60, 40), "", ()),  # its centre lies outside
        (K, (0, 0), "", ()),
        (K[:6], (WIDTH, HEIGHT), "", ()),
        (K, (WIDTH, HEIGHT), "a model of nobody", (0.1, 0.1)),
        (K, (WIDTH, HEIGHT), "plumb_bob", (np.inf, 0.0, 0.0, 0.0, 0.0)),
        (K, (WIDTH, HEIGHT), "equidistant", (0.1,)),
    ],
)
def test_intrinsics_that_no_lens_has_count_as_not_known(
    k: tuple[float, ...] | None, size: tuple[int, int], model: str, d: tuple[float, ...]
) -> None:
    assert lens_of(k, *size, model, d) is None


def test_a_lens_follows_the_scale_of_its_pictures_and_not_a_cut() -> None:
    lens = plain_lens(380.0, 640, 480)
    half = lens.for_size(320, 240)
    assert half is not None and half.focal_px == pytest.approx(190.0)
    assert half.k[0, 2] == pytest.approx(159.5)  # the middle stays the middle
    assert lens.for_size(640, 360) is None


def test_what_looks_to_the_side_of_a_fisheye_has_no_ray() -> None:
    k = (100.0, 0.0, 160.0, 0.0, 100.0, 120.0, 0.0, 0.0, 1.0)
    lens = lens_of(k, WIDTH, HEIGHT, "equidistant", (0.0, 0.0, 0.0, 1e-9))
    assert lens is not None
    rays, good = lens.rays(np.array([[160.0, 120.0], [319.0, 120.0]], np.float32))  # ahead, and 91 degrees aside
    assert good.tolist() == [True, False]
    assert np.isfinite(rays).all()


# Matching


def test_matches_are_mutual_and_alike() -> None:
    rows = np.eye(4, 64, dtype=np.float32)
    near = rows[0] * np.float32(0.9) + rows[3] * np.float32(np.sqrt(1 - 0.81))
    found = mutual_matches(np.stack([rows[0], near, rows[1]]), rows[:3], 0.7)
    assert [part.tolist() for part in found] == [[0, 2], [0, 1]]  # `near` is not the nearest of what it is nearest to
    assert all(len(part) == 0 for part in mutual_matches(rows[:0], rows, 0.7))


def test_alignment_finds_a_shift_of_a_fraction_of_a_pixel_in_other_light() -> None:
    draw = np.random.default_rng(2)
    scene = cv2.GaussianBlur(draw.integers(0, 256, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 2.0) * 4 - 380
    moved = cv2.warpAffine(scene, np.array([[1, 0, 1.3], [0, 1, -0.6]]), (WIDTH, HEIGHT))
    pictures = (np.clip(one, 0, 255).astype(np.uint8) for one in (scene, moved * 0.4 + 20))
    day, night = (np.asarray(cv2.cvtColor(one, cv2.COLOR_GRAY2RGB), np.uint8) for one in pictures)
    points = draw.uniform(30, 200, (60, 2)).astype(np.float32)
    window = DEFAULT_PARAMS.contrast_window
    found, good = align(levelled(day, window), levelled(night, window), points, points + np.float32(1.0))
    off = np.linalg.norm(found - points - (1.3, -0.6), axis=1)[good]
    assert good.mean() > 0.9 and np.median(off) < 0.15


# Adjustment


@dataclass(frozen=True, eq=False)
class Drive:
    """Seven cameras along a street, their map poses with noise, and what they see."""

    true: Scene
    noisy: Scene


@pytest.fixture(scope="module")
def drive() -> Drive:
    draw = np.random.default_rng(5)
    points = street_points(150) + np.array([6.0, 0.0, 0.0])
    poses = [camera_at(2.0 * n, 0.2 * n, 0.02 * n) for n in (0, -1, 1, -2, 2, -3, 3)]
    rays = np.concatenate([seen_by(pose, points) for pose in poses])
    cameras, numbers = np.repeat(np.arange(7), len(points)), np.tile(np.arange(len(points)), 7)
    rotations, positions = np.stack([p.rotation.as_matrix() for p in poses]), np.stack([p.position for p in poses])
    weights = np.full(len(rays), 190.0)
    true = Scene(rotations, positions, points, cameras, numbers, rays, weights)
    turned = rotations @ Rotation.from_rotvec(draw.normal(0, 0.01, (7, 3))).as_matrix()
    seen = rays + draw.normal(0, 0.3 / 190, rays.shape)
    noisy = Scene(turned, positions + draw.normal(0, 0.07, (7, 3)), points, cameras, numbers, seen, weights)
    return Drive(true, noisy)


def test_rays_of_exact_poses_meet_at_the_landmarks(drive: Drive) -> None:
    assert np.allclose(triangulate(drive.true), drive.true.landmarks, atol=1e-4)


def test_adjustment_makes_landmarks_and_motion_better_than_the_map_s_poses_are(drive: Drive) -> None:
    start = replace(drive.noisy, landmarks=triangulate(drive.noisy))
    found, covariances = adjust(start, Priors(0.1, 0.01), 2.0)

    def shape_error(scene: Scene) -> float:  # distances within the scene, which no common shift changes
        apart, true = (np.linalg.norm(s.landmarks - s.positions[0], axis=1) for s in (scene, drive.true))
        return float(np.median(np.abs(apart / true - 1)))

    assert shape_error(found) < 0.4 * shape_error(start)
    assert np.linalg.eigvalsh(covariances).min() > 0
    assert np.median(np.linalg.norm(found.residuals(), axis=1)) < 0.5


def test_a_landmark_close_before_one_camera_alone_has_a_long_covariance_and_raises_nothing() -> None:
    draw, count, pose = np.random.default_rng(0), 500, camera_at(-31.15, 51.9, 2.0)
    inside = np.column_stack([draw.uniform(-0.06, 0.06, (count, 2)), draw.uniform(0.06, 0.3, count)])
    points = pose.rotation.apply(inside) + pose.position
    place = np.zeros(count, np.int64)
    rotation, position = pose.rotation.as_matrix()[None], pose.position[None]
    scene = Scene(rotation, position, points, place, np.arange(count), seen_by(pose, points), np.full(count, 380.0))
    _, covariances = adjust(scene, Priors(0.1, 0.01), DEFAULT_PARAMS.loss_scale)
    lengths = np.linalg.eigvalsh(covariances)
    assert (lengths > 0).all() and (lengths[:, 2] > 1e3).all() and (lengths[:, 1] < 1e-3).all()


def test_wrong_observations_do_not_move_the_others(drive: Drive) -> None:
    draw, rays = np.random.default_rng(6), drive.noisy.rays.copy()
    wrong = draw.random(len(rays)) < 0.1
    rays[wrong] += draw.uniform(-0.3, 0.3, (int(wrong.sum()), 2))
    found, _ = adjust(replace(drive.noisy, rays=rays), Priors(0.1, 0.01), 2.0)
    off = found.positions - drive.true.positions
    assert np.linalg.norm(off - off.mean(axis=0), axis=1).max() < 0.15  # what all share no picture tells


# Resection


@given(x=st.floats(-3, 3), y=st.floats(-2, 2), yaw=st.floats(-0.3, 0.3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_a_camera_finds_itself_among_landmarks(x: float, y: float, yaw: float, seed: int) -> None:
    lens, pose = plain_lens(190.0, WIDTH, HEIGHT), camera_at(x, y, yaw)
    matched = matched_from(pose, street_points(80, seed), lens, noise_px=0.5, seed=seed)
    found = resect(matched, blank_view(lens))
    assert found is not None
    assert np.linalg.norm(found.pose.position - pose.position) < 0.3
    assert (pose.rotation.inv() * found.pose.rotation).magnitude() < np.radians(1.0)
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    assert found.inliers >= 70 and 0 < found.spread <= 1 and found.residual_px < 1.5


def test_the_covariance_is_what_poses_scatter_by() -> None:
    lens, pose, points = plain_lens(190.0, WIDTH, HEIGHT), camera_at(0.5, -1.0, 0.1), street_points(60)
    params = replace(DEFAULT_PARAMS, covariance_factor=1.0)
    squares = []
    for seed in range(60):
        found = resect(matched_from(pose, points, lens, 1.0, seed), blank_view(lens), None, params)
        assert found is not None
        off = (found.pose.position - pose.position)[:2]
        squares.append(off @ np.linalg.solve(found.covariance[:2, :2], off))
    assert 0.5 < np.mean(squares) / 2 < 1.6  # of two dimensions the mean square is two


def test_wrong_matches_are_left_out_and_too_few_right_ones_are_no_pose() -> None:
    lens, pose, points = plain_lens(190.0, WIDTH, HEIGHT), camera_at(0.0, 1.5, 0.05), street_points(60)
    matched = matched_from(pose, points, lens, 0.5)
    draw = np.random.default_rng(8)
    pixels = matched.pixels.copy()
    pixels[:25] = draw.uniform((0, 0), (WIDTH, HEIGHT), (25, 2))
    found = resect(replace(matched, pixels=pixels), blank_view(lens))
    assert found is not None and np.linalg.norm(found.pose.position - pose.position) < 0.4
    pixels[: len(points) - 8] = draw.uniform((0, 0), (WIDTH, HEIGHT), (len(points) - 8, 2))
    assert resect(replace(matched, pixels=pixels), blank_view(lens)) is None
    assert resect(matched.of(np.zeros(len(matched), np.bool_)), blank_view(lens)) is None


def test_the_ground_steadies_a_pose_of_few_landmarks() -> None:
    lens, pose = plain_lens(190.0, WIDTH, HEIGHT), camera_at(0.0, 0.0, 0.0)
    ground = Ground(pose.rotation.inv().apply([0.0, 0.0, 1.0]), 0.0)
    alone, on_ground = [], []
    for seed in range(20):
        matched = matched_from(pose, street_points(20, seed), lens, 1.0, seed)
        for prior, errors in ((None, alone), (ground, on_ground)):
            found = resect(matched, blank_view(lens), prior)
            errors.append(1.0 if found is None else float(abs(found.pose.position[2])))
    assert np.mean(on_ground) < 0.7 * np.mean(alone)


# Focal lengths


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.4])
def test_the_focal_length_is_found_from_landmarks(ratio: float) -> None:
    lens, pose = plain_lens(ratio * WIDTH, WIDTH, HEIGHT), camera_at(0.3, 1.0, 0.1)
    points = street_points(400)
    pixels = lens.pixels(seen_by(pose, points))
    inside = ((pixels > 0) & (pixels < (WIDTH, HEIGHT))).all(axis=1)
    found = focal_from_landmarks(matched_from(pose, points[inside], lens, 0.5), blank_view(None), None)
    assert found is not None
    assert found[0].ratio == pytest.approx(ratio, rel=0.05)
    assert np.linalg.norm(found[1].pose.position - pose.position) < 0.6


def pairs_of(turn_rad: float, count: int = 12) -> list[Pair]:
    """Views of a camera of ratio 0.7 that drives 2 m and turns by so much each time."""
    lens, points = plain_lens(0.7 * WIDTH, WIDTH, HEIGHT), street_points(120)
    pairs = []
    for number in range(count):
        turned = turn_rad * (-1) ** number
        first, second = camera_at(0.0, 0.0, -turned / 2), camera_at(2.0, 0.1 * (-1) ** number, turned / 2)
        both = [lens.pixels(seen_by(pose, points)).astype(np.float64) for pose in (first, second)]
        pairs.append(Pair(both[0], both[1], second.inverse() @ first))
    return pairs


def test_the_focal_length_is_found_from_a_map_whose_camera_turned() -> None:
    found = focal_from_poses(pairs_of(0.25), WIDTH, HEIGHT, 0.1)
    assert found is not None and found.ratio == pytest.approx(0.7, rel=0.03)


def test_a_map_of_two_pictures_tells_no_focal_length() -> None:
    assert focal_from_poses(pairs_of(0.25, count=1), WIDTH, HEIGHT, 0.1) is None


def test_estimates_of_many_images_are_joined_without_the_wild_ones() -> None:
    several = joined([Focal(0.7, 0.02), Focal(0.71, 0.02), Focal(0.69, 0.02), Focal(2.5, 0.02), Focal(0.7, 0.02)])
    assert several.ratio == pytest.approx(0.7) and 0.02 <= several.sigma < 0.03


# Two views


def test_rays_of_one_point_lie_on_each_other_s_epipolar_lines() -> None:
    first, second, points = camera_at(0.0, 0.0, 0.0), camera_at(2.0, 0.3, 0.1), street_points(50)
    motion = second.inverse() @ first
    rays = seen_by(first, points), seen_by(second, points)
    apart = epipolar_distances(*rays, motion.rotation.as_matrix(), motion.position)
    assert apart.max() < 1e-9
    assert np.median(epipolar_distances(rays[0], rays[1][::-1], motion.rotation.as_matrix(), motion.position)) > 0.01


def test_a_camera_that_only_turned_has_no_epipolar_lines_and_no_nan() -> None:
    points = street_points(20)
    first, second = camera_at(0.0, 0.0, 0.0), camera_at(0.0, 0.0, 0.2)
    motion = second.inverse() @ first
    apart = epipolar_distances(
        seen_by(first, points), seen_by(second, points), motion.rotation.as_matrix(), np.zeros(3)
    )
    assert np.isfinite(apart).all()


@given(count=st.integers(0, 30), seed=st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_matches_that_are_all_one_point_or_on_one_line_have_no_inliers_and_raise_nothing(count: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    line = np.outer(draw.uniform(0, 200, count), [1.0, 0.5]).astype(np.float32)
    for points in (line, np.zeros((count, 2), np.float32)):
        assert fundamental_inliers(points, points[::-1].copy()).shape == (count,)
