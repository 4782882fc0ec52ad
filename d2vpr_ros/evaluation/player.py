"""The player of an evaluation's page: a drive image by image, what the localizer believed and why it was silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.drawing import Points
from d2vpr_ros.evaluation.match_drawing import pair_svg
from d2vpr_ros.evaluation.offline import Answered
from d2vpr_ros.evaluation.page import data_uri
from d2vpr_ros.evaluation.player_drawing import Believed, Plans
from d2vpr_ros.evaluation.plot import COLOURS
from d2vpr_ros.evaluation.scoring import ScoredQuery, semi_axis_m
from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.images.decode import decode_compressed, encoded_size
from d2vpr_ros.localize.estimate import RejectReason
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.picture import PICTURE_SIDE, shrink
from d2vpr_ros.multiview import View
from d2vpr_ros.multiview.two_view import two_view_inliers
from d2vpr_ros.multiview.view import view_of

IMAGES = 150
"""In a page at most, of all recordings together; each takes some 75 kB, and about as long as to describe it."""
MOST_IMAGES = 2000
"""That may be asked for: a page of 150 MB."""

_LINES = 80  # of inliers that are drawn for an image, at most
_PICTURE_BYTES, _QUALITY = 40_000, 70  # a larger JPEG is written anew

WHY = {
    RejectReason.NO_MATCH: "No place looks more like the image than other places do.",
    RejectReason.UNCONFIRMED: "Too few images support the place, or the probability is too low.",
    RejectReason.AMBIGUOUS: "Another place, elsewhere in the map, is nearly as likely.",
    RejectReason.OFF_MAP: "It is likelier that the robot is at no place of the map.",
    RejectReason.VERIFICATION_FAILED: "The image shares too few points with the picture of the place.",
    RejectReason.MOTION_CONTRADICTS: "The images and the robot's motion lead to different places.",
    RejectReason.GPS_CONTRADICTS: "The images and GPS lead to different places.",
    RejectReason.NO_METRES: "The place is known; the map has no metres, so there is no pose.",
    RejectReason.STALE_IMAGE: "The image was too old to answer.",
}


@dataclass(frozen=True, eq=False)
class Moment:
    """One image of a drive.

    Attributes:
        number, of: of the image among those of the drive, from 1, and how many they are.
        seconds: since the drive's first image.
        off_map, rival: belief of being off the map, and of the likeliest neighbourhood elsewhere; None where no place
            came into question.
        inliers: that the localizer counted with the picture of the best place; 0 where it did not compare them.
    """

    query: ScoredQuery
    number: int
    of: int
    seconds: float
    believed: Believed
    off_map: float | None = None
    rival: float | None = None
    inliers: int = 0


@dataclass(frozen=True)
class _Shown:
    """A moment as the page shows it."""

    verdict: str
    headline: str
    why: str
    facts: tuple[tuple[str, str], ...]
    pair: Markup
    said: str
    now: Markup
    near: Markup


@dataclass(frozen=True)
class Player:
    """Attributes:
    moments: what is shown, one at a time; whole: the drawing below each one's `now`; strip: all verdicts as a line.
    note: which images are in it.
    has_near: whether any has a drawing of what is around it.
    """

    moments: Sequence[_Shown]
    whole: Markup
    strip: Markup
    note: str
    has_near: bool


def evenly(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` different numbers below `count`, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def moments_of(every: Sequence[Answered], most: int) -> list[Moment]:
    """Of the images whose truth is known at most so many, evenly spread over the drive."""
    known = [(number, one, one.query) for number, one in enumerate(every, 1) if one.query is not None]
    chosen = [known[index] for index in evenly(len(known), most)]
    began_ns = every[0].estimate.stamp_ns if every else 0
    return [_moment(one, query, number, len(every), began_ns) for number, one, query in chosen]


def _moment(answered: Answered, query: ScoredQuery, number: int, of: int, began_ns: int) -> Moment:
    estimate, standing = answered.estimate, answered.estimate.standing
    believed = Believed(
        tuple(match.row for match in estimate.matches),
        tuple(match.belief for match in estimate.matches),
        None if standing is None else standing.position,
    )
    off_map, rival = (None, None) if standing is None else (float(standing.off_map), float(standing.rival))
    inliers = estimate.matches[0].inliers if estimate.matches else 0
    seconds = (query.stamp_ns - began_ns) / NANOSECONDS
    return Moment(query, number, of, seconds, believed, off_map, rival, inliers)


def make_player(
    moments: Sequence[Moment],
    total: int,
    place_map: PlaceMap,
    features: FeatureExtractor,
    unit: str,
    query_jpeg: Callable[[ScoredQuery], bytes | None],
) -> Player:
    """Draw the moments.

    Args:
        total: images there were, of all drives.
        unit: of how far an answer is off: m or frames.
        query_jpeg: the picture of an image.
    """
    plans = Plans(place_map, [moment.query for moment in moments])

    @lru_cache(maxsize=8)  # a robot that stands still has one place for many images
    def place_picture(row: int) -> _Picture:
        return _look(place_map.picture(row), features)

    shown = [
        _show(moment, place_map, plans, unit, _look(query_jpeg(moment.query), features), place_picture)
        for moment in moments
    ]
    note = (
        f"All {total} images."
        if len(moments) == total
        else f"{len(moments)} of {total} images, evenly chosen of each recording (option --player)."
    )
    strip = _strip([moment.query.verdict for moment in moments])
    return Player(shown, Markup(plans.whole()), Markup(strip), note, any(one.near for one in shown))


@dataclass(frozen=True, eq=False)
class _Picture:
    """A picture as small as a map's: the data URI, its size in pixels, its points; empty where there is none."""

    uri: str = ""
    width: int = PICTURE_SIDE
    height: int = PICTURE_SIDE * 3 // 4
    view: View | None = None


def _look(jpeg: bytes | None, features: FeatureExtractor) -> _Picture:
    if jpeg is None:
        return _Picture()
    try:
        rgb = shrink(decode_compressed(np.frombuffer(jpeg, np.uint8)))
    except (UserError, cv2.error):  # OpenCV has limits of its own. `d2vpr map check` names the picture
        return _Picture()
    if len(jpeg) > _PICTURE_BYTES or max(encoded_size(jpeg) or (0,)) > PICTURE_SIDE:
        jpeg = encode_jpeg(rgb, _QUALITY)
    height, width = rgb.shape[:2]
    return _Picture(data_uri(jpeg), width, height, view_of(rgb, features))


def _show(
    moment: Moment,
    place_map: PlaceMap,
    plans: Plans,
    unit: str,
    seen: _Picture,
    place_picture: Callable[[int], _Picture],
) -> _Shown:
    query, believed = moment.query, moment.believed
    best = believed.rows[0] if believed.rows else None
    place = _Picture(width=seen.width, height=seen.height) if best is None else place_picture(best)
    inliers: Points = np.zeros((0, 2))
    ends: Points = inliers
    if seen.view is not None and place.view is not None:
        inliers, ends = (np.asarray(points, np.float64) for points in two_view_inliers(seen.view, place.view))
    drawn = evenly(len(inliers), _LINES) if len(inliers) else np.zeros(0, np.int64)
    pair = pair_svg(
        (seen.uri, seen.width, seen.height), (place.uri, place.width, place.height), inliers[drawn], ends[drawn]
    )
    said = "Image and best match" if best is None else f"Image and place {query.place_id}"
    if best is None:
        said += ": no place came into question."
    elif not place.uri:
        said += ": the map has no picture of the place that can be read."
    elif seen.view is not None:
        said += f": {len(inliers)} points fit one motion of the camera"
        said += f", {len(drawn)} are drawn." if len(drawn) < len(inliers) else "."
    return _Shown(
        query.verdict,
        _headline(query, unit),
        _why(moment),
        tuple(_facts(moment, unit)),
        Markup(pair),
        said,
        Markup(plans.now(query, believed)),
        Markup(plans.near(query, believed)),
    )


def _headline(query: ScoredQuery, unit: str) -> str:
    if query.accepted:
        said = f"Answered, {'right' if query.right else 'wrong'}{_off(query, unit)}"
    else:
        said = f"Silent: {query.reject_reason or query.state}"
    return f"{said} · probability {_probability(query)}"


def _probability(query: ScoredQuery) -> str:
    """As many digits as tell it from 1."""
    return f"{query.probability:.5f}" if query.probability > 0.99 else f"{query.probability:.3f}"


def _off(query: ScoredQuery, unit: str) -> str:
    if query.off is None:
        return "" if query.answerable else ": the map has no such place"
    away = f"off by {query.off:.2f} m" if unit == "m" else f"off by {query.off:g} frames"
    return f": {away}" if query.turned_deg is None else f": {away} and {query.turned_deg:.0f}°"


def _why(moment: Moment) -> str:
    """In a sentence; empty with a pose."""
    if not moment.believed.rows and moment.query.reject_reason == RejectReason.OFF_MAP.value:
        return "No place comes into question: all are too far from the GPS fix."
    return WHY.get(RejectReason(moment.query.reject_reason), "")


def _facts(moment: Moment, unit: str) -> list[tuple[str, str]]:
    """Rows of a name and a value, of what is known."""
    query, believed = moment.query, moment.believed
    rows = [
        ("Image", f"{moment.number} of {moment.of}, {moment.seconds:.1f} s, {query.drive}, {query.image_topic}"),
        ("State", f"{query.state}{f', {query.reject_reason}' if query.reject_reason else ''}"),
    ]
    if believed.rows:
        rows.append(
            (
                "Best match",
                f"place {query.place_id}, similarity {query.similarity:.3f}, belief {believed.beliefs[0]:.3f}",
            )
        )
    if moment.inliers:
        rows.append(("Compared", f"{moment.inliers} inliers with its picture, by the localizer"))
    if moment.off_map is not None and moment.rival is not None:
        shown = sum(believed.beliefs)
        rows.append(
            (
                "Belief",
                f"{shown:.3f} in the {len(believed.rows)} likeliest places, {moment.rival:.3f} around the best place "
                f"elsewhere, {moment.off_map:.3f} off the map",
            )
        )
    if not query.accepted:
        would_be = "right" if query.right else "wrong"
        rows.append(("Would have been", f"{would_be}{_off(query, unit)}" if believed.rows else "nothing"))
    axis = semi_axis_m(query)
    if axis is not None:
        rows.append(("95 % ellipse", f"longer half axis {axis:.2f} m"))
    rows.append(("The map has the place", "yes" if query.answerable else "no"))
    return rows


def _strip(verdicts: Sequence[str]) -> str:
    parts = [
        f'<rect x="{number}" y="0" width="1.02" height="1" fill="{COLOURS[verdict]}"/>'
        for number, verdict in enumerate(verdicts)
    ]
    box = f'viewBox="0 0 {len(verdicts)} 1" preserveAspectRatio="none"'
    return "".join(
        [f'<svg class="strip" {box} shape-rendering="crispEdges" role="img" aria-label="verdicts">', *parts, "</svg>"]
    )
