"""What `d2vpr match` found, as lines for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2vpr_ros.evaluation.one_image import Answer, Group, MatchedImage
from d2vpr_ros.evaluation.scoring import semi_axis_95_m
from d2vpr_ros.mapping import PlaceMap


@dataclass(frozen=True)
class Deviations:
    """Standard deviations of a pose: of x, y and z in metres, of the heading in degrees; and the longer half axis of
    the 95 % ellipse on the map's xy-plane, metres."""

    position_m: tuple[float, float, float]
    heading_deg: float
    semi_axis_m: float

    @staticmethod
    def of(answer: Answer) -> Deviations:
        x, y, z, _, _, turn = np.sqrt(np.diag(answer.covariance).clip(0.0)).tolist()
        return Deviations((x, y, z), float(np.degrees(turn)), semi_axis_95_m(answer.covariance))


def lines(matched: MatchedImage, place_map: PlaceMap) -> list[str]:
    """The picture, its camera, what is doubtful, and a line for each group of candidates."""
    width, height = matched.size
    rows = [columns(place_map), *(cells(group, place_map) for group in matched.groups)]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return [
        f"picture: {width} x {height}, {len(matched.view)} points",
        f"intrinsics: {matched.intrinsics}",
        *(f"note: {note}" for note in matched.notes),
        *("  ".join((*(cell.ljust(width) for cell, width in zip(row, wide, strict=False)), row[-1])) for row in rows),
    ]


def columns(place_map: PlaceMap) -> tuple[str, ...]:
    """What the `cells` of a group are."""
    heading = "from north, clockwise" if place_map.header.origin else "from x, anticlockwise"
    base = f"base in the map (standard deviations), heading {heading}"
    return ("rank", "place", "similarity", "inliers", "share", "spread", "residual", base)


def cells(group: Group, place_map: PlaceMap) -> tuple[str, ...]:
    """A group in the order of `columns`."""
    sighting = group.sighting
    numbers = ("", "", "")
    if group.answer is not None:
        numbers = f"{sighting.share:.0%}", f"{sighting.spread:.2f}", f"{sighting.residual_px:.2f} px"
    return (
        str(group.rank),
        str(place_map.ids[sighting.row]),
        f"{group.similarity:.3f}",
        str(sighting.inliers),
        *numbers,
        f"no pose: {group.no_pose}" if group.answer is None else pose_in_words(group.answer),
    )


def pose_in_words(answer: Answer) -> str:
    sigmas = Deviations.of(answer)
    axes = zip("xyz", answer.base.position, sigmas.position_m, strict=True)
    parts = [f"{axis} {value:.2f} ({sigma:.2f})" for axis, value, sigma in axes]
    parts[-1] += " m"
    if answer.heading_deg is not None:
        parts.append(f"heading {answer.heading_deg:.1f} ({sigmas.heading_deg:.1f}) deg")
    parts.append(f"95 % ellipse {sigmas.semi_axis_m:.2f} m")
    if answer.geo is not None:
        parts.append(f"lat {answer.geo[0]:.7f} lon {answer.geo[1]:.7f}")
    return ", ".join(parts)


def as_json(matched: MatchedImage, place_map: PlaceMap, image: Path) -> dict[str, object]:
    """All numbers; null where there is none, never NaN."""
    lens = matched.view.lens
    return {
        "map": str(place_map.path),
        "image": str(image),
        "width": matched.size[0],
        "height": matched.size[1],
        "points": len(matched.view),
        "intrinsics": matched.intrinsics,
        "focal_px": None if lens is None else lens.focal_px * matched.size[0] / lens.width,
        "notes": list(matched.notes),
        "candidates": _ids(place_map, matched.candidates),
        "frame": place_map.header.frame,
        "groups": [_group(group, place_map) for group in matched.groups],
    }


def write_json(path: Path, matched: MatchedImage, place_map: PlaceMap, image: Path) -> None:
    """
    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(as_json(matched, place_map, image), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", errors="replace")


def _group(group: Group, place_map: PlaceMap) -> dict[str, object]:
    sighting, answer = group.sighting, group.answer
    return {
        "rank": group.rank,
        "place_id": int(place_map.ids[sighting.row]),
        "similarity": group.similarity,
        "inliers": sighting.inliers,
        "share": sighting.share if answer else None,
        "spread": sighting.spread if answer else None,
        "residual_px": sighting.residual_px if answer else None,
        "landmarks_of": _ids(place_map, sighting.rows),
        "pose": _pose(answer) if answer else None,
        "no_pose": group.no_pose,
    }


def _pose(answer: Answer) -> dict[str, object]:
    sigmas = Deviations.of(answer)
    latitude, longitude, altitude = answer.geo or (None, None, None)
    return {
        "position": answer.base.position.tolist(),
        "quaternion": answer.base.quaternion.tolist(),
        "heading_deg": answer.heading_deg,
        "covariance": answer.covariance.reshape(-1).tolist(),
        "sigma_position_m": list(sigmas.position_m),
        "sigma_heading_deg": sigmas.heading_deg,
        "semi_axis_95_m": sigmas.semi_axis_m,
        "latitude": latitude,
        "longitude": longitude,
        "altitude": altitude,
    }


def _ids(place_map: PlaceMap, rows: Sequence[int]) -> list[int]:
    return [int(place_map.ids[row]) for row in rows]
