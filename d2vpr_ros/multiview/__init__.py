"""From matched local features to landmarks, inliers and a metric pose. Everything in metres, pixels and radians."""

from d2vpr_ros.multiview.lens import Lens, camera_lens, lens_of
from d2vpr_ros.multiview.params import GeometryParams
from d2vpr_ros.multiview.place_geometry import PlaceGeometry, Sighting, open_geometry
from d2vpr_ros.multiview.view import View, view_of

__all__ = [
    "GeometryParams",
    "Lens",
    "PlaceGeometry",
    "Sighting",
    "View",
    "camera_lens",
    "lens_of",
    "open_geometry",
    "view_of",
]
