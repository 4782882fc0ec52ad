"""The place map: written by a builder, searched by a localizer."""

from d2vpr_ros.mapping.build import BuildOptions, MapBuilder
from d2vpr_ros.mapping.header import Camera, MapHeader, Session
from d2vpr_ros.mapping.index import Index
from d2vpr_ros.mapping.keyframes import KeyframeRule
from d2vpr_ros.mapping.place_map import PlaceMap, check_model, read_map

__all__ = [
    "BuildOptions",
    "Camera",
    "Index",
    "KeyframeRule",
    "MapBuilder",
    "MapHeader",
    "PlaceMap",
    "Session",
    "check_model",
    "read_map",
]
