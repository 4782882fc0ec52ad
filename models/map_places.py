"""Maps as training data: a folder of .d2map files built from bags; near places of all its sessions are one place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping import PlaceMap, read_map
from models.fit_pca import open_source
from models.places import Image, Places, fingerprint_of

MAX_TURN_RAD = 0.7
"""Images of one place face alike within this: 40 degrees."""


def cluster(place_map: PlaceMap, radius_m: float) -> list[npt.NDArray[np.int64]]:
    """Rows that show one place: within `radius_m` of its first row and facing alike, from whatever session.

    The first rows of two places are 3 * radius_m or 3 * MAX_TURN_RAD apart, so no image of one is within radius_m and
    MAX_TURN_RAD of an image of the other. Rows in between belong to no place.
    """
    tree, turned = cKDTree(place_map.positions), Rotation.from_quat(place_map.quaternions)
    free = np.ones(len(place_map), bool)
    found = []
    for first in range(len(place_map)):
        if not free[first]:
            continue
        near = np.array(tree.query_ball_point(place_map.positions[first], 3 * radius_m), np.int64)
        turns = (turned[first].inv() * turned[near]).magnitude()
        away = np.linalg.norm(place_map.positions[near] - place_map.positions[first], axis=1)
        found.append(np.sort(near[(away <= radius_m) & (turns <= MAX_TURN_RAD) & free[near]]))
        free[near[turns <= 3 * MAX_TURN_RAD]] = False
    return found


def read_map_places(folder: Path, radius_m: float, least_sessions: int = 1) -> Places:
    """The places of all maps in a folder; each map is a group.

    Two maps of one site do not know of each other: join them first (`d2vpr map merge`), else one place counts as two.

    Args:
        radius_m: images of one place are within this of its first.
        least_sessions: places seen in fewer are left out; 2 keeps only what was seen on different drives.

    Raises:
        UserError: there are no maps, one has no metres, or has no picture of a place.
    """
    files = sorted(folder.glob("*.d2map")) if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder}: no maps; expected a folder with .d2map files built with pictures (d2vpr map build)")
    rows: list[npt.NDArray[np.int64]] = []
    groups: list[str] = []
    parts: list[str] = [f"{radius_m:g} {least_sessions}"]
    sources, starts = [], [0]
    for file in files:
        place_map = read_map(file)
        if not place_map.header.metric:
            raise UserError(f"map {file} has no positions in metres; build it with poses")
        without = np.flatnonzero(place_map.picture_sizes() == 0)
        if len(without):
            raise UserError(f"map {file} has no picture of {len(without)} places; build it with pictures")
        for found in cluster(place_map, radius_m):
            if len(np.unique(place_map.sessions[found])) >= least_sessions:
                rows.append(starts[-1] + found)
                groups.append(file.stem)
        sources.append(open_source(file))
        starts.append(starts[-1] + len(place_map))
        parts += [file.name, hashlib.sha256(file.read_bytes()).hexdigest()]

    def read(row: int) -> Image:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return sources[number].read(row - starts[number])

    described = f"{len(rows)} places of {len(files)} maps ({starts[-1]} images), within {radius_m:g} m"
    return Places(rows, groups, read, fingerprint_of(parts), described)
