"""The player of an evaluation's page: a drive image by image, what the localizer believed and why it was silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from markupsafe import Markup

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.drawing import Points
from d2vpr_ros.evaluation.match_drawing import pair_svg
from d2vpr_ros.evaluation.moments import Moment, evenly
from d2vpr_ros.evaluation.page import data_uri
from d2vpr_ros.evaluation.player_drawing import Plans
from d2vpr_ros.evaluation.player_words import facts, headline, why
from d2vpr_ros.evaluation.plot import COLOURS
from d2vpr_ros.evaluation.scoring import ScoredQuery
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.images.decode import decode_compressed, encoded_size
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.picture import PICTURE_SIDE, shrink
from d2vpr_ros.multiview import View
from d2vpr_ros.multiview.two_view import two_view_inliers
from d2vpr_ros.multiview.view import view_of

IMAGES = 100
"""In a page at most, of all recordings together; each takes some 70 kB, and about as long as to describe it."""
MOST_IMAGES = 2000
"""That may be asked for: a page of some 140 MB."""

_LINES = 80  # of inliers that are drawn for an image, at most
_PICTURE_BYTES, _QUALITY = 40_000, 70  # a larger JPEG is written anew


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


def make_player(
    moments: Sequence[Moment],
    scored: int,
    unscored: int,
    place_map: PlaceMap,
    features: FeatureExtractor,
    unit: str,
    query_jpeg: Callable[[ScoredQuery], bytes | None],
) -> Player:
    """Draw the moments.

    Args:
        scored, unscored: images with a truth and without, of all drives; the latter are not shown.
        unit: of how far an answer is off: m or frames.
        query_jpeg: the picture of an image.
    """
    plans = Plans(place_map, [moment.query for moment in moments])

    @lru_cache(maxsize=8)  # a robot that stands still has one place for many images
    def place_picture(row: int) -> _Picture:
        return _look(place_map.picture(row), features)

    shown = [_show(moment, plans, unit, _look(query_jpeg(moment.query), features), place_picture) for moment in moments]
    note = f"All {scored} images."
    if len(moments) < scored:
        note = f"{len(moments)} of {scored} images, evenly chosen of each recording (option --player)."
    note += f" {unscored} images without a truth are left out." if unscored else ""
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
        headline(query, unit),
        why(moment),
        tuple(facts(moment, unit)),
        Markup(pair),
        said,
        Markup(plans.now(query, believed)),
        Markup(plans.near(query, believed)),
    )


def _strip(verdicts: Sequence[str]) -> str:
    parts = [
        f'<rect x="{number}" y="0" width="1.02" height="1" fill="{COLOURS[verdict]}"/>'
        for number, verdict in enumerate(verdicts)
    ]
    box = f'viewBox="0 0 {len(verdicts)} 1" preserveAspectRatio="none"'
    return "".join(
        [f'<svg class="strip" {box} shape-rendering="crispEdges" role="img" aria-label="verdicts">', *parts, "</svg>"]
    )
