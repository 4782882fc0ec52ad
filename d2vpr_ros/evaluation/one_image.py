"""One picture held against a map: what it looks like, what it shares with those places, and where it was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.covariance import moved
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import one_line
from d2vpr_ros.geometry import FORWARD_MOUNT, Array, Pose
from d2vpr_ros.mapping import PlaceMap, check_model
from d2vpr_ros.mapping.earth import Earth, earth_of
from d2vpr_ros.mapping.picture import shrink
from d2vpr_ros.mapping.quality import find_flaw
from d2vpr_ros.mapping.search import LocalSearch
from d2vpr_ros.multiview import Lens, PlaceGeometry, Sighting, View

Picture = npt.NDArray[np.uint8]

CANDIDATES = 8
"""Places that are looked at closely."""
_BY_CHANCE = 25  # inliers that a pose by images of other places reaches by day (GeometryParams.least_inliers)
_CENTRE = 0.2  # of a side; an optical centre further off the middle is told: K may be of another size


@dataclass(frozen=True, eq=False)
class Answer:
    """Where the robot's base was, by one picture.

    Attributes:
        base: T_map_base.
        covariance: (6, 6) of it in the map frame, in the order of geometry_msgs, metres and radians.
        heading_deg: where the base's x axis points, as `MapHeader.heading_deg`; None near vertical.
        geo: latitude, longitude (degrees) and altitude (metres), where the map lies on the earth.
    """

    base: Pose
    covariance: Array
    heading_deg: float | None
    geo: tuple[float, float, float] | None


@dataclass(frozen=True, eq=False)
class Group:
    """Candidate places near one another.

    Attributes:
        rank: of its first place among the candidates, 1 for the one that looks most alike.
        similarity: cosine between the descriptors of the picture and of the group's first place.
        sighting: what the picture shares with them.
        answer: None where there is no pose.
        no_pose: why there is none; empty where there is one.
    """

    rank: int
    similarity: float
    sighting: Sighting
    answer: Answer | None
    no_pose: str


@dataclass(frozen=True, eq=False)
class MatchedImage:
    """Attributes:
    small: (H, W, 3) the picture at the size that the pixels of sightings are in.
    view: its points and lens.
    size: (width, height) of the picture as given.
    intrinsics: where they are from, or why there are none, in words.
    notes: what is doubtful about the picture or its camera.
    candidates: rows of the map that were looked at, those that look most alike first.
    groups: of candidates, those with a pose first, and with the most inliers.
    """

    small: Picture
    view: View
    size: tuple[int, int]
    intrinsics: str
    notes: tuple[str, ...]
    candidates: tuple[int, ...]
    groups: tuple[Group, ...]


def match_image(
    rgb: Picture,
    geometry: PlaceGeometry,
    extractor: Extractor,
    lens: Lens | None = None,
    source: str = "as given",
    mount: Pose | None = None,
    candidates: int = CANDIDATES,
) -> MatchedImage:
    """Describe a picture, search the map, match it with the places that look most alike, and find its pose.

    Args:
        rgb: (H, W, 3) uint8 RGB of any size.
        lens: of its camera; None takes that of the map's camera, if its pictures have the same shape.
        source: of the lens, in words.
        mount: T_base_cameraOptical; None takes that of the map's camera.

    Raises:
        UserError: the map was made by another model, or the lens is for pictures of another shape.
    """
    place_map = geometry.map
    check_model(place_map, extractor.identity)
    height, width = rgb.shape[:2]
    if lens is not None and lens.for_size(width, height) is None:
        raise UserError(
            f"the picture is {width} x {height}, its camera's intrinsics ({source}) are for {lens.width} x "
            f"{lens.height}, which is another shape; give the picture as the camera took it, or its own intrinsics"
        )
    similarities, rows = LocalSearch(place_map).nearest(extractor.describe([rgb])[0], candidates)
    found = tuple(int(row) for row in rows)
    if lens is None:
        lens, intrinsics = _lens_of_map(geometry, found, width, height)
    else:
        intrinsics = f"{source}, {_in_words(lens)}"
    view = geometry.view(rgb, lens)
    sightings = geometry.sightings(view, found, mount)
    if lens is None:  # known only now, if the sightings told it
        intrinsics = f"{geometry.intrinsics(None)}; {intrinsics}"
    earth = earth_of(place_map)
    groups = []
    for sighting in sightings:
        number = found.index(sighting.row)
        answer = _answer(place_map, sighting, mount, earth)
        no_pose = "" if answer else _why_no_pose(geometry, view, sighting, intrinsics)
        groups.append(Group(number + 1, float(similarities[number]), sighting, answer, no_pose))
    groups.sort(key=lambda group: (group.answer is None, -group.sighting.inliers))
    small = shrink(rgb)
    notes = _notes(small, view, lens, groups)
    if lens is None and any(group.answer for group in groups):
        notes = (*notes, "the focal length of this camera is estimated; the optical centre is assumed in the middle")
    return MatchedImage(small, view, (width, height), intrinsics, notes, found, tuple(groups))


def _lens_of_map(geometry: PlaceGeometry, rows: Sequence[int], width: int, height: int) -> tuple[Lens | None, str]:
    """The lens of the first candidate's camera that may have taken the picture, and in words where it is from."""
    lenses = [(row, lens) for row in rows if (lens := geometry.place_lens(row)) is not None]
    if not lenses:
        return None, "the map has no intrinsics to use"
    for row, lens in lenses:
        if lens.for_size(width, height) is not None:
            camera = geometry.map.camera_table[int(geometry.map.cameras[row])]
            told = "" if camera.k else ", estimated from the map's poses"
            return lens, f"taken from the map's camera '{one_line(camera.name)}', {_in_words(lens)}{told}"
    lens = lenses[0][1]
    return (
        None,
        f"the map's camera has {lens.width} x {lens.height}, another shape; give --camera-info of this one",
    )


def _in_words(lens: Lens) -> str:
    distortion = f", {lens.model}" if lens.d else ""
    return f"{lens.width} x {lens.height}, focal length {lens.focal_px:.0f} px{distortion}"


def _notes(small: Picture, view: View, lens: Lens | None, groups: Sequence[Group]) -> tuple[str, ...]:
    notes = []
    if flaw := find_flaw(small):
        notes.append(f"the picture is {flaw}")
    if not len(view):
        notes.append("the picture shows no points to match")
    if lens is not None:
        off = np.abs(lens.k[:2, 2] / (lens.width, lens.height) - 0.5).max()
        if off > _CENTRE:
            notes.append(
                f"the optical centre is {off:.0%} of a side off the middle; check that the camera matrix is for "
                f"pictures of {lens.width} x {lens.height}"
            )
    if groups and groups[0].answer is not None and groups[0].sighting.inliers <= _BY_CHANCE:
        notes.append(
            f"a pose of {groups[0].sighting.inliers} inliers is weak evidence: pictures of other places reach "
            f"{_BY_CHANCE} by chance"
        )
    return tuple(notes)


def _answer(place_map: PlaceMap, sighting: Sighting, mount: Pose | None, earth: Earth | None) -> Answer | None:
    """The base's pose from the camera's."""
    if sighting.pose is None or sighting.covariance is None or not np.isfinite(sighting.covariance).all():
        return None
    base = sighting.pose @ (mount or place_map.mount(sighting.row)).inverse()
    covariance = moved(sighting.covariance, base.position - sighting.pose.position)
    heading_deg = place_map.header.heading_deg(base @ FORWARD_MOUNT)
    return Answer(base, covariance, heading_deg, None if earth is None else earth.to_geo(base.position))


def _why_no_pose(geometry: PlaceGeometry, view: View, sighting: Sighting, intrinsics: str) -> str:
    """The first thing that a pose lacks, in words."""
    row, place_map = sighting.row, geometry.map
    if not place_map.header.metric:
        return "the map is a sequence without metres"
    if geometry.place_view(row) is None:
        return "the map has no readable picture of the place"
    if geometry.place_lens(row) is None:
        return "the map has no intrinsics of the camera that saw the place, and its poses do not tell them"
    if not len(geometry.neighbours(row)):
        return "no other place near it looks the same way, so it has no landmarks"
    landmarks = geometry.landmarks(row)
    if landmarks is None:
        return "its neighbours' pictures give it no landmarks"
    if view.lens is None:
        return f"the picture's intrinsics are {intrinsics}"
    return f"fewer than {geometry.params.least_inliers} of its {len(landmarks)} landmarks fit one"
