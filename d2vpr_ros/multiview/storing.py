"""Make the landmarks of every place of a finished map and store them in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping import read_map
from d2vpr_ros.mapping.database import transaction
from d2vpr_ros.mapping.landmark_table import prepare, store
from d2vpr_ros.mapping.store import open_writable
from d2vpr_ros.multiview.params import DEFAULT_PARAMS, GeometryParams
from d2vpr_ros.multiview.place_geometry import PlaceGeometry
from d2vpr_ros.multiview.stored_landmarks import note_of, to_blob

_AT_ONCE = 8  # places a transaction: a killed run has to do a second of work again


@dataclass
class LandmarkCounts:
    """Attributes:
    places: of the map.
    earlier: that had been looked at before.
    made: that landmarks were stored for.
    none: that have none: too little parallax, or a picture that shows nothing.
    unknown: that were left out: no picture that can be read, or nothing known of the camera's lens.
    stored_bytes: of all that was stored.
    """

    places: int
    earlier: int = 0
    made: int = 0
    none: int = 0
    unknown: int = 0
    stored_bytes: int = 0

    def __str__(self) -> str:
        parts = [f"landmarks of {self.made} places stored, {self.stored_bytes / 1e6:.1f} MB"]
        parts += [f"{self.earlier} had been looked at before"] if self.earlier else []
        parts += [f"{self.none} show none"] if self.none else []
        parts += [f"{self.unknown} without a picture or intrinsics"] if self.unknown else []
        return ", ".join(parts)


def store_landmarks(
    path: Path,
    extractor: FeatureExtractor,
    params: GeometryParams = DEFAULT_PARAMS,
    on_place: Callable[[], object] = lambda: None,
) -> LandmarkCounts:
    """Store the landmarks of every place of a map that has none yet, in place, some places a transaction.

    Stopped at any time, the map is good, and the same call goes on. Landmarks that were made with another feature
    network or other params are replaced.

    Args:
        on_place: called for each place.

    Raises:
        UserError: no such map; one without metres or without pictures; it cannot be written.
    """
    place_map = read_map(path)
    if not place_map.header.metric:
        raise UserError(f"map {path} is a sequence without metres: its places have no landmarks")
    if not place_map.picture_sizes().any():
        raise UserError(f"map {path} has no pictures, so no landmarks can be made; build it without --no-pictures")
    geometry = PlaceGeometry(place_map, extractor, params)
    counts = LandmarkCounts(len(place_map))
    with open_writable(path) as writer:
        connection = writer.connection
        with transaction(connection):
            prepare(connection, note_of(extractor, params))
        done = {int(number) for (number,) in connection.execute("SELECT place FROM landmarks")}
        waiting: list[tuple[int, bytes]] = []

        def save() -> None:
            with transaction(connection):
                for number, blob in waiting:
                    store(connection, number, blob)
            waiting.clear()

        for row, number in enumerate(place_map.ids.tolist()):
            if number in done:
                counts.earlier += 1
            elif (blob := _blob(geometry, row)) is None:
                counts.unknown += 1
            else:
                waiting.append((number, blob))
                counts.made, counts.none = counts.made + bool(blob), counts.none + (not blob)
                counts.stored_bytes += len(blob)
                if len(waiting) == _AT_ONCE:
                    save()
            on_place()
        save()
    return counts


def _blob(geometry: PlaceGeometry, row: int) -> bytes | None:
    """What is stored for a place; None where a later version, or a repaired map, may know more."""
    if geometry.place_lens(row) is None or geometry.place_view(row) is None:
        return None
    return to_blob(geometry.triangulated(row), geometry.map.camera_pose(row))
