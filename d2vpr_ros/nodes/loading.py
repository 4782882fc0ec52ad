"""A map and what answers from it, opened together and exchanged together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.compose import decode_jpeg
from d2vpr_ros.localize import Localizer, Verify
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.earth import Earth, earth_of
from d2vpr_ros.mapping.search import open_search
from d2vpr_ros.multiview.place_geometry import PlaceGeometry, open_geometry
from d2vpr_ros.nodes.settings import Settings


@dataclass(frozen=True, eq=False)
class Loaded:
    """Attributes:
    localizer: of the map `localizer.map`.
    earth: where that lies on the earth; None where it does not say.
    geometry: compares images with the map's landmarks; None as long as nobody asked for it.
    """

    localizer: Localizer
    earth: Earth | None
    geometry: PlaceGeometry | None = None

    def close(self) -> None:
        """End what searches for places: it may have a connection and a thread."""
        self.localizer.search.close()


def with_options(loaded: Loaded, settings: Settings) -> Loaded:
    """The same map with a localizer that has other options; it believes in nothing yet.

    Raises:
        UserError: images are to be compared with landmarks from now on, and the feature network cannot be opened.
    """
    old, geometry = loaded.localizer, loaded.geometry
    if geometry is None and settings.options.verify is not Verify.NEVER:
        geometry = _warm_geometry(old.map, settings)
    localizer = Localizer(old.map, old.extractor, settings.options, old.cameras.mounts[0], old.search, geometry)
    if len(old.cameras.mounts) > 1:
        localizer.use_mounts(old.cameras.mounts)
    return replace(loaded, localizer=localizer, geometry=geometry)


def _warm_geometry(
    place_map: PlaceMap, settings: Settings, features: FeatureExtractor | None = None
) -> PlaceGeometry | None:
    """What compares images with a map, opened and run once: the first pass is slow. None where the map has no pictures.

    Args:
        features: the feature network, where it is open already.

    Raises:
        UserError: it cannot be opened.
    """
    try:
        geometry = (
            PlaceGeometry(place_map, features)
            if features
            else open_geometry(place_map, settings.features, settings.device)
        )
    except UserError as error:
        raise UserError(
            f"images cannot be compared with the landmarks of the map: {error}; name weights that this machine can run "
            "with parameter 'features', or set verify to never"
        ) from None
    if geometry is not None:
        geometry.sightings(geometry.view(np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)), [0])
    return geometry


_TRIED_ON = 16  # pictures of a map


def some_pictures(place_map: PlaceMap) -> list[npt.NDArray[np.uint8]] | None:
    """Of 16 places all over a map, (H, W, 3) uint8 RGB; None where it has fewer."""
    rows = np.linspace(0, len(place_map) - 1, _TRIED_ON).astype(int)
    jpegs = [place_map.picture(row) for row in rows] if len(place_map) >= _TRIED_ON else []
    pictures = [picture for jpeg in jpegs if jpeg and (picture := decode_jpeg(jpeg)) is not None]
    return pictures if len(pictures) == _TRIED_ON else None


def load(
    place_map: PlaceMap,
    extractor: Extractor,
    settings: Settings,
    mounts: Sequence[Pose | None],
    say: Callable[[str], object],
    features: FeatureExtractor | None = None,
) -> Loaded:
    """Set a localizer up on a map.

    Args:
        mounts: T_base_cameraOptical of each camera; of several only where all are known, else None alone.
        say: takes one line each time the connection to a shared database is lost or found again.
        features: the feature network, where it is open already.

    Raises:
        UserError: another model made the map, or the feature network cannot be opened.
    """
    search = open_search(settings.search_backend, settings.search_collection, place_map, say)
    try:
        is_compared = settings.options.verify is not Verify.NEVER
        geometry = _warm_geometry(place_map, settings, features) if is_compared else None
        localizer = Localizer(place_map, extractor, settings.options, mounts[0], search, geometry)
        if len(mounts) > 1:
            localizer.use_mounts(mounts)
        return Loaded(localizer, earth_of(place_map), geometry)
    except BaseException:
        search.close()
        raise
