"""What the geometry of one image costs, beside the network that describes the whole picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from d2vpr_ros.describe import Extractor
from d2vpr_ros.multiview import PlaceGeometry
from models.bench.geometry_answers import best_rows
from models.bench.geometry_scenes import Query
from models.bench.timing import ROUNDS, Times, race

NANO = "nano"
POOLED = 3
STORED_PLACES = 10_000


@dataclass(frozen=True)
class Footprint:
    """Bytes of what is kept.

    Attributes:
        view, landmarks: mean of one place.
        memory: of both caches when they are full, MB of 10^6.
        picture: mean of a place in the map's file.
        stored: of a place's landmarks, were they stored: 64 bytes a descriptor, 3 float32 of position, 6 float16 of
            covariance, 2 float16 of pixels.
        count: mean landmarks of a place.
    """

    view: float
    landmarks: float
    memory: float
    picture: float
    stored: float
    count: float


def cost(geometry: PlaceGeometry, query: Query, extractor: Extractor, rounds: int = ROUNDS) -> Times:
    """Seconds of each stage for one image, each stage once a round."""
    rows = best_rows(geometry.map, query)[:POOLED].tolist()
    view = geometry.view(query.rgb, query.lens)
    geometry.sightings(view, rows)
    cold = PlaceGeometry(geometry.map, geometry.extractor, geometry.params)

    def from_nothing() -> None:
        empty = PlaceGeometry(geometry.map, geometry.extractor, geometry.params)
        empty.sightings(view, rows)

    def from_views() -> None:
        cold._landmarks.clear()
        cold.landmarks(rows[0])

    contenders: dict[str, Callable[[], object]] = {
        NANO: lambda: extractor.describe([query.rgb]),
        "features of the image": lambda: geometry.view(query.rgb, query.lens),
        "matching and pose, three candidates in cache": lambda: geometry.sightings(view, rows),
        "all of it, three candidates in cache": lambda: geometry.sightings(geometry.view(query.rgb, query.lens), rows),
        "landmarks of a place, pictures in cache": from_views,
        "matching and pose, nothing in cache": from_nothing,
    }
    return race(contenders, rounds)


def footprint(geometry: PlaceGeometry, rows: Sequence[int]) -> Footprint:
    """Of some places of a map."""
    views = [array_bytes(seen) for row in rows if (seen := geometry.place_view(row)) is not None]
    marks = [found for row in rows if (found := geometry.landmarks(row)) is not None]
    view, landmarks = float(np.mean(views)), float(np.mean([array_bytes(one) for one in marks]))
    kept = [min(STORED_PLACES, most) for most in (geometry.params.kept_views, geometry.params.kept_landmarks)]
    count = float(np.mean([len(one) for one in marks]))
    return Footprint(
        view,
        landmarks,
        (kept[0] * view + kept[1] * landmarks) / 1e6,
        float(geometry.map.picture_sizes().mean()),
        count * (64 + 3 * 4 + 6 * 2 + 2 * 2),
        count,
    )


def array_bytes(kept: object) -> int:
    """Bytes of the arrays of a dataclass."""
    values = (getattr(kept, field.name) for field in fields(kept))  # type: ignore[arg-type]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))
