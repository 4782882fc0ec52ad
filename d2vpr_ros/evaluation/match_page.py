"""The page of `d2vpr match`: both pictures with inlier lines, and where that is in the map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from d2vpr_ros.evaluation.match_drawing import overview_svg, pair_svg, place_pixels, plan_svg
from d2vpr_ros.evaluation.match_report import cells, columns
from d2vpr_ros.evaluation.one_image import Group, MatchedImage
from d2vpr_ros.evaluation.page import data_uri, write_page
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.images.decode import encoded_size
from d2vpr_ros.multiview import PlaceGeometry


@dataclass(frozen=True)
class _Drawn:
    """A group as the page shows it: its cells, its drawings, and what is said below them."""

    cells: tuple[str, ...]
    pair: Markup
    plan: Markup
    said: str


def write_match_page(
    path: Path, matched: MatchedImage, geometry: PlaceGeometry, image: Path, mount: Pose | None = None
) -> None:
    """Write the page.

    Args:
        image: the picture's file, for its name.
        mount: T_base_cameraOptical; None takes that of the map's cameras.

    Raises:
        OSError: the file cannot be written.
    """
    place_map = geometry.map
    width, height = matched.size
    facts = [
        ("picture", f"{image}, {width} x {height}, {len(matched.view)} points"),
        ("intrinsics", matched.intrinsics),
        ("map", f"{place_map.path}, {len(place_map)} places, frame {place_map.header.frame}"),
        ("mount", "as given" if mount else "that of the map's camera"),
    ]
    best = matched.groups[0] if matched.groups else None
    write_page(
        path,
        "match",
        f"{image.name} in {place_map.path.name}",
        lead=_lead(best),
        notes=matched.notes,
        columns=columns(place_map),
        groups=[_drawn(group, matched, geometry, mount) for group in matched.groups],
        overview=Markup(overview_svg(place_map, matched, mount)) if place_map.header.metric else "",
        facts=facts,
    )


def _lead(best: Group | None) -> str:
    if best is None:
        return "The map has no candidate."
    inliers = f"{best.sighting.inliers} inliers"
    if best.answer is None:
        return f"No pose. The best group of candidates has {inliers}: {best.no_pose}."
    return f"A pose from {inliers}, {best.sighting.share:.0%} of what should be visible."


def _drawn(group: Group, matched: MatchedImage, geometry: PlaceGeometry, mount: Pose | None) -> _Drawn:
    sighting, place_map = group.sighting, geometry.map
    jpeg = place_map.picture(sighting.row)
    size = None if jpeg is None or geometry.place_view(sighting.row) is None else encoded_size(jpeg)
    high, wide = matched.small.shape[:2]
    query = (data_uri(encode_jpeg(matched.small)), wide, high)
    place = (data_uri(jpeg), *size) if size is not None else ("", wide, high)
    seen = np.zeros((0, 2)) if sighting.query_pixels is None else np.asarray(sighting.query_pixels, np.float64)
    stored = place_pixels(geometry, sighting)
    outside = int(np.isnan(stored).any(axis=1).sum())
    said = f"picture · place {place_map.ids[sighting.row]}, {sighting.inliers} inliers"
    if group.answer is None:
        said += ", by two-view geometry alone" if sighting.inliers else ""
    else:
        said += "; landmarks of its neighbours are where the map's poses put them"
    if outside:
        said += f"; {outside} landmarks outside the place's picture are rings"
    if size is None:
        said += "; the map has no readable picture of the place"
    plan = plan_svg(place_map, group, mount) if place_map.header.metric else ""
    return _Drawn(cells(group, place_map), Markup(pair_svg(query, place, seen, stored)), Markup(plan), said)
