"""What the map builder's parameters say of the map that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.images.deep import Range
from d2vpr_ros.mapping import BuildOptions, KeyframeRule, MapHeader, read_map
from d2vpr_ros.nodes.pose_input import GPS, ODOM


def pose_frame(values: Mapping[str, Any]) -> str:
    """The frame that the poses are in."""
    return str(values["map_frame"] or ("odom" if values["pose_source"] == ODOM else "map"))


def build_options(values: Mapping[str, Any]) -> BuildOptions:
    """Which images become places."""
    rule = KeyframeRule(values["spacing_m"], values["turn_deg"], values["max_interval_s"] or None)
    return BuildOptions(rule, values["pictures"], values["keep_all"], values["waiting"])


def map_header(
    values: Mapping[str, Any], model: Extractor, image_range: Range | None, origin: LocalFrame | None
) -> MapHeader:
    """Of a new map.

    Args:
        origin: of its frame, where the poses come from GPS.
    """
    frame = values["closed_frame"] if values["close_loops"] else pose_frame(values)
    geo_tagged = values["use_gps"] or origin is not None
    known = model.identity, model.width, frame, values["spacing_m"], origin, geo_tagged
    return MapHeader(*known, image_range=image_range)


def origin_of(values: Mapping[str, Any], path: Path) -> LocalFrame | None:
    """Of the map that is added to; its GPS poses go on in its frame.

    Raises:
        UserError: the map has other poses.
    """
    if values["pose_source"] != GPS or not values["append"] or not path.exists():
        return None
    origin = read_map(path).header.origin
    if origin is None:
        raise UserError(f"map {path} was not made from GPS poses; add to it with poses of the same source")
    return origin
