"""A match as SVG: both pictures with lines between their inliers, and the places and landmarks from above."""

from __future__ import annotations

import numpy as np

from d2vpr_ros.evaluation.drawing import (
    ANSWER,
    CANDIDATE,
    PLACE,
    Points,
    arrow,
    dots,
    ellipse,
    frame,
    open_plan,
    outline,
    plan_axes,
)
from d2vpr_ros.evaluation.one_image import Group, MatchedImage
from d2vpr_ros.evaluation.plot import scale_bar
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.multiview import PlaceGeometry, Sighting

_GAP = 8.0  # pixels between the two pictures
_NEAREST = 0.05  # metres; a landmark nearer than that is behind the camera
_REACH_M = 40.0  # around the place that a plan shows at most
_LANDMARKS_SHOWN = 0.9  # share of the nearest landmarks that a plan is drawn large enough for
_LANDMARK = "#1b8a4b"


def place_pixels(geometry: PlaceGeometry, sighting: Sighting) -> Points:
    """(N, 2) where a sighting's inliers are in the place's picture; NaN where they are outside it.

    Landmarks of the place itself were found in it. Those of its neighbours are projected with the map's pose of the
    place, which is as exact as that pose.
    """
    if sighting.place_pixels is not None:
        return np.asarray(sighting.place_pixels, np.float64)
    if sighting.landmarks is None or not len(sighting.landmarks):
        return np.zeros((0, 2))
    pixels = np.full((len(sighting.landmarks), 2), np.nan)
    place = geometry.place_view(sighting.row)
    if place is None or place.lens is None:
        return pixels
    pose = geometry.map.camera_pose(sighting.row)
    seen = pose.rotation.inv().apply(sighting.landmarks - pose.position)
    ahead = seen[:, 2] > _NEAREST
    pixels[ahead] = place.lens.pixels(seen[ahead, :2] / seen[ahead, 2:])
    own = geometry.landmarks(sighting.row)
    known = {} if own is None else dict(zip(map(tuple, own.positions.tolist()), own.pixels, strict=True))
    for number, landmark in enumerate(sighting.landmarks.tolist()):
        pixels[number] = known.get(tuple(landmark), pixels[number])
    height, width = place.levelled.shape
    pixels[~((pixels >= 0) & (pixels <= (width - 1, height - 1))).all(axis=1)] = np.nan
    return pixels


def pair_svg(query: tuple[str, int, int], place: tuple[str, int, int], seen: Points, stored: Points) -> str:
    """The picture left, the place's right, and a line for each inlier; one without an end in the place is a ring.

    Args:
        query, place: data URI (empty where there is no picture), width and height.
        seen, stored: (N, 2) pixels of the inliers in each; NaN in the second where they are not in it.
    """
    left, right = query[1], place[1]
    across, down = left + _GAP + right, max(query[2], place[2])
    parts = [f'<svg class="pair" viewBox="0 0 {across:g} {down:g}" role="img" aria-label="inliers of both pictures">']
    for (uri, width, height), x in ((query, 0.0), (place, left + _GAP)):
        box = f'x="{x:g}" y="0" width="{width}" height="{height}"'
        parts.append(f'<image {box} href="{uri}"/>' if uri else f'<rect {box} fill="#8d99a6" fill-opacity="0.25"/>')
    for (x, y), (u, v) in zip((seen + 0.5).tolist(), (stored + 0.5).tolist(), strict=True):
        # Colours by where the point is in the picture, so that an eye can follow a line.
        colour = f"hsl({300 * x / max(left, 1):.0f},90%,60%)"
        if not np.isfinite([u, v]).all():
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="none" stroke="{colour}" stroke-width="0.8"/>'
            )
            continue
        u += left + _GAP
        parts.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{u:.1f}" y2="{v:.1f}" stroke="{colour}" stroke-width="0.6" '
            f'stroke-opacity="0.55"/><circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" fill="{colour}"/>'
            f'<circle cx="{u:.1f}" cy="{v:.1f}" r="1.6" fill="{colour}"/>'
        )
    return "".join([*parts, "</svg>"])


def overview_svg(place_map: PlaceMap, matched: MatchedImage, mount: Pose | None) -> str:
    """The whole map from above: places grey, groups of candidates by rank, the first group's pose."""
    axes = plan_axes(place_map)
    places = place_map.base_poses(mount)[0]
    answers = [group.answer.base.position for group in matched.groups[:1] if group.answer]
    at, scale, height = frame(np.concatenate([places, np.reshape(answers, (-1, 3))])[:, axes])
    parts = [open_plan(height, "the map from above"), *dots(at, places[:, axes], 2.2, PLACE)]
    parts += dots(at, places[list(matched.candidates)][:, axes], 3.4, CANDIDATE)
    for group in reversed(matched.groups):
        x, y = at(places[group.sighting.row][axes])
        parts.append(f'<text x="{x + 7:.1f}" y="{y + 17:.1f}" font-size="13" fill="{CANDIDATE}">{group.rank}</text>')
    for answer in answers:
        x, y = at(answer[axes])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="none" stroke="{ANSWER}" stroke-width="2.5"/>')
    return "".join([*parts, scale_bar(scale, height), "</svg>"])


def plan_svg(place_map: PlaceMap, group: Group, mount: Pose | None) -> str:
    """What is around a group's place from above: places, the landmarks used, the place's pose and the estimated one.

    Args:
        mount: T_base_cameraOptical; None takes that of the map's cameras. Poses are of the base.
    """
    axes, sighting = plan_axes(place_map), group.sighting
    places: Points = place_map.base_poses(mount)[0][:, axes]
    place = place_map.base_pose(sighting.row, mount)
    landmarks = np.zeros((0, 2)) if sighting.landmarks is None else sighting.landmarks[:, axes]
    shown, span = [place.position[axes]], place_map.spacing_m or 1.0
    around_answer: Points = np.zeros((0, 2))
    if group.answer is not None:
        answer_at = group.answer.base.position[axes]
        shown.append(answer_at)
        covariance = group.answer.covariance[np.ix_(axes, axes)]
        around_answer = outline(answer_at, covariance)
    away = np.linalg.norm(landmarks - shown[0], axis=1)
    near = landmarks[away <= min(_REACH_M, float(np.quantile(away, _LANDMARKS_SHOWN)))] if len(away) else landmarks
    around = places[np.linalg.norm(places - shown[0], axis=1) <= 3.0 * span]
    at, scale, height = frame(np.concatenate([np.stack(shown), near, around, around_answer]))
    parts = [open_plan(height, "the place from above"), *dots(at, places, 3.0, PLACE)]
    parts += dots(at, landmarks, 2.0, _LANDMARK)
    parts += dots(at, places[[row for row in sighting.rows if row != sighting.row]], 4.0, CANDIDATE)
    if group.answer is not None:
        parts += ellipse(at, answer_at, covariance, ANSWER)
    parts += arrow(at, place, axes, CANDIDATE)
    if group.answer is not None:
        parts += arrow(at, group.answer.base, axes, ANSWER)
    return "".join([*parts, scale_bar(scale, height), "</svg>"])
