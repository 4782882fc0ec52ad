"""The place map: written by a builder, searched by a localizer."""

from d2vpr_ros.mapping.build import KeyframeRule, KeyframeSelector, build_map
from d2vpr_ros.mapping.header import Camera, MapHeader, Session
from d2vpr_ros.mapping.index import Index
from d2vpr_ros.mapping.place_map import PlaceMap, check_model, read_map

__all__ = [
    "Camera",
    "Index",
    "KeyframeRule",
    "KeyframeSelector",
    "MapHeader",
    "PlaceMap",
    "Session",
    "build_map",
    "check_model",
    "read_map",
]
