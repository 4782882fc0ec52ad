"""Thin a map out: to a density, to its newest sessions, or without some of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping.database import transaction
from d2vpr_ros.mapping.join import copy_map
from d2vpr_ros.mapping.landmark_table import has_landmarks
from d2vpr_ros.mapping.loop_table import drop_places
from d2vpr_ros.mapping.place_map import PlaceMap
from d2vpr_ros.mapping.store import open_writable

Kept = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PruneRule:
    """What to keep of a map; what is None or empty drops nothing.

    Attributes:
        spacing_m: a place nearer than this to one that is kept already, and turned from it by less than `turn_deg`, is
            dropped; those of newer sessions are kept first.
        newest: how many sessions are kept, by the stamp of their last place.
        drop: ids of sessions to drop.
    """

    spacing_m: float | None = None
    turn_deg: float = 20.0
    newest: int | None = None
    drop: frozenset[int] = frozenset()


def choose(place_map: PlaceMap, rule: PruneRule) -> Kept:
    """(N,) which places stay.

    Raises:
        UserError: the rule does not fit the map, or nothing would stay.
    """
    unknown = sorted(rule.drop - set(place_map.session_table))
    if unknown:
        known = ", ".join(map(str, sorted(place_map.session_table)))
        raise UserError(f"map {place_map.path} has no session {unknown[0]}; it has {known} (see d2vpr map info)")
    if rule.spacing_m is not None and not place_map.header.metric:
        raise UserError(f"map {place_map.path} is a sequence map without metres: --spacing cannot be used")
    sessions = [session for session in _newest_first(place_map) if session not in rule.drop][: rule.newest]
    if not sessions:
        raise UserError(f"map {place_map.path} would be left without places; drop fewer sessions")
    kept = np.isin(place_map.sessions, sessions)
    return kept if rule.spacing_m is None else _thin(place_map, kept, sessions, rule.spacing_m, rule.turn_deg)


def prune_map(place_map: PlaceMap, kept: Kept, out: Path, spacing_m: float | None = None) -> None:
    """Write a map of only some places. Their ids stay; sessions and cameras that saw none of them are dropped.

    Args:
        kept: (N,) from `choose`.
        out: must not exist.
        spacing_m: what it was thinned to.
    """
    copy_map(place_map.path, out)
    coarser = spacing_m is not None and spacing_m > place_map.header.keyframe_spacing_m
    with open_writable(out) as writer:
        with transaction(writer.connection):
            dropped = [(int(number),) for number in place_map.ids[~kept]]
            drop_places(writer.connection, place_map.ids[~kept].tolist())
            own = (("landmarks", "place"),) if has_landmarks(writer.connection) else ()
            for table, column in (*own, ("pictures", "place"), ("descriptors", "place"), ("places", "id")):
                writer.connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", dropped)
            for table in ("cameras", "sessions"):
                writer.connection.execute(
                    f"DELETE FROM {table} WHERE id NOT IN (SELECT {table.removesuffix('s')} FROM places)"
                )
            if coarser:
                statement = "UPDATE d2vpr_meta SET value = ? WHERE key = 'keyframe_spacing_m'"
                writer.connection.execute(statement, (repr(float(spacing_m or 0)),))
            writer.set_extent()
        writer.connection.execute("VACUUM")


def count_by_session(place_map: PlaceMap, rows: Kept | None = None) -> dict[int, int]:
    """How many places, of those at `rows`, each session has."""
    sessions = place_map.sessions if rows is None else place_map.sessions[rows]
    return {key: int((sessions == key).sum()) for key in sorted(place_map.session_table)}


def _newest_first(place_map: PlaceMap) -> list[int]:
    keys = np.unique(place_map.sessions)
    newest = [int(place_map.stamps_ns[place_map.sessions == key].max()) for key in keys]
    return [int(keys[number]) for number in np.lexsort((keys, np.array(newest)))[::-1]]


def _thin(place_map: PlaceMap, kept: Kept, sessions: Collection[int], spacing_m: float, turn_deg: float) -> Kept:
    """Go through the places, newest sessions first; each that is still there drops those close around it."""
    tree = cKDTree(place_map.positions)
    alike = np.cos(np.radians(turn_deg) / 2)  # |q1 . q2| is the cosine of half the angle between
    left = kept.copy()
    for session in sessions:
        for row in np.flatnonzero(place_map.sessions == session):
            if left[row]:
                # Just under: places exactly a spacing apart are what was asked for.
                near = np.array(tree.query_ball_point(place_map.positions[row], spacing_m * (1 - 1e-6)))
                same_way = np.abs(place_map.quaternions[near] @ place_map.quaternions[row]) > alike
                left[near[same_way]] = False
                left[row] = True
    return left
