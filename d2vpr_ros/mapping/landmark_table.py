"""The landmarks that a map file may hold: a table of their own that `d2vpr map landmarks` fills.

A landmark takes 92 bytes. It is stored relative to its place's camera, so it stays right when a whole map is moved or
turned, and moves with its place when that place's pose is corrected.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.mapping.schema import LANDMARKS_KEY, LANDMARKS_TABLE

VERSION = 1
"""Of what a blob holds; landmarks of another version are not used."""

MOST = 326
"""Landmarks of a place: as many as 30 kB hold."""

_DESCRIPTOR = 64
_ROW = np.dtype(
    [("position", "<f4", (3,)), ("factor", "<f2", (6,)), ("pixel", "<i2", (2,)), ("descriptor", "i1", (_DESCRIPTOR,))]
)
_PIXEL_STEPS = 64.0  # of a pixel: 16 bits reach over 512 pixels, and stored pictures have 320
_FULL = 127.0
_NEAREST_SIGMA_M, _FARTHEST_SIGMA_M = 1e-4, 6e4  # of what float16 holds
_FARTHEST_M = 1e5  # from the place
_LOWER = np.tril_indices(3)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PlaceLandmarks:
    """Landmarks of one place in the optical frame of its camera.

    Attributes:
        positions: (N, 3) float64, metres.
        covariances: (N, 3, 3) float64, square metres.
        pixels: (N, 2) float32 in the stored picture.
        descriptors: (N, 64) float32 of unit length.
    """

    positions: Array
    covariances: Array
    pixels: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.positions)


def encode(landmarks: PlaceLandmarks) -> bytes:
    """The first MOST landmarks as a blob: the best first, if they are in that order.

    Of a covariance its Cholesky factor is stored: rounded to float16 it is still a covariance, however long and thin.
    Landmarks that cannot be stored (not finite, beyond 100 km) are left out.
    """
    factors = _factors(landmarks.covariances)
    good = np.isfinite(landmarks.positions).all(axis=1) & np.isfinite(factors).all(axis=1)
    good &= (np.abs(landmarks.positions) < _FARTHEST_M).all(axis=1)
    kept = np.flatnonzero(good)[:MOST]
    rows = np.zeros(len(kept), _ROW)
    rows["position"] = landmarks.positions[kept]
    rows["factor"] = factors[kept]
    rows["pixel"] = np.clip(np.round(landmarks.pixels[kept] * _PIXEL_STEPS), -32768, 32767)
    largest = np.abs(landmarks.descriptors[kept]).max(axis=1, keepdims=True, initial=1e-6)
    rows["descriptor"] = np.round(landmarks.descriptors[kept] / largest * _FULL)
    return rows.tobytes()


def decode(blob: object) -> PlaceLandmarks | None:
    """The landmarks in a blob; None where it holds none that can be used (`blob_problem` says why)."""
    if blob_problem(blob) or not isinstance(blob, bytes):
        return None
    rows = np.frombuffer(blob, _ROW)
    factors = np.zeros((len(rows), 3, 3))
    factors[:, _LOWER[0], _LOWER[1]] = rows["factor"]
    descriptors = rows["descriptor"].astype(np.float32)
    return PlaceLandmarks(
        rows["position"].astype(np.float64),
        factors @ np.swapaxes(factors, 1, 2),
        rows["pixel"].astype(np.float32) / np.float32(_PIXEL_STEPS),
        descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
    )


def blob_problem(blob: Any) -> str | None:
    """What is wrong with the landmarks of a place, in words; None if nothing is. An empty blob is a place that has
    none."""
    if not isinstance(blob, bytes):
        return "its landmarks are no row of bytes"
    if len(blob) > MOST * _ROW.itemsize:
        return f"its landmarks are more than {MOST * _ROW.itemsize} bytes"
    if len(blob) % _ROW.itemsize:
        return f"its landmarks are {len(blob)} bytes, expected a multiple of {_ROW.itemsize}"
    rows = np.frombuffer(blob, _ROW)
    positions, factors = rows["position"], rows["factor"]
    if not (np.isfinite(positions).all() and (np.abs(positions) <= _FARTHEST_M).all()):
        return "its landmarks are nowhere near it"
    if not (np.isfinite(factors).all() and (factors[:, _LOWER[0] == _LOWER[1]] > 0).all()):
        return "covariances of its landmarks are not positive"
    if not rows["descriptor"].any(axis=1).all():
        return "a descriptor of its landmarks is 0"
    return None


def note(features: Mapping[str, object], params: Mapping[str, object]) -> str:
    """What has to be equal for stored landmarks to be used, as d2vpr_meta holds it.

    Args:
        features: the network that gave the descriptors.
        params: what the landmarks were made with.
    """
    facts = {"version": VERSION, "features": dict(features), "params": dict(params)}
    return json.dumps(facts, sort_keys=True, allow_nan=False)


def stored_note(connection: sqlite3.Connection) -> str | None:
    """The note of the landmarks in a map; None where it has no such table."""
    if not has_landmarks(connection):
        return None
    found = connection.execute("SELECT value FROM d2vpr_meta WHERE key = ?", (LANDMARKS_KEY,)).fetchone()
    return str(found[0]) if found else ""


def has_landmarks(connection: sqlite3.Connection) -> bool:
    """Whether a map has the table."""
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'landmarks'")
    return found.fetchone() is not None


def prepare(connection: sqlite3.Connection, made: str) -> None:
    """Make the table if it is not there, and empty it if it holds landmarks with another note; in a transaction."""
    if not has_landmarks(connection):
        connection.execute(LANDMARKS_TABLE)
    if stored_note(connection) != made:
        connection.execute("DELETE FROM landmarks")
        connection.execute("INSERT OR REPLACE INTO d2vpr_meta VALUES (?, ?)", (LANDMARKS_KEY, made))


def store(connection: sqlite3.Connection, place: int, blob: bytes) -> None:
    """Put a place's landmarks into the table that `prepare` made, in place of those before."""
    connection.execute("INSERT OR REPLACE INTO landmarks VALUES (?, ?)", (place, blob))


def read_blob(connection: sqlite3.Connection, place: int) -> object:
    """A place's blob, unchecked; None where there is none. One too long is not even read: zeros stand for it."""
    longest = MOST * _ROW.itemsize
    found = connection.execute(
        "SELECT CASE WHEN length(points) <= ? THEN points ELSE zeroblob(?) END FROM landmarks WHERE place = ?",
        (longest, longest + 1, place),
    ).fetchone()
    return found[0] if found else None


def _factors(covariances: Array) -> Array:
    """(N, 3, 3) covariances -> (N, 6) lower triangles of their Cholesky factors; NaN where one is no covariance."""
    factors = np.full((len(covariances), 6), np.nan)
    finite = np.flatnonzero(np.isfinite(covariances).all(axis=(1, 2)))
    values, axes = np.linalg.eigh(covariances[finite])
    bounded = np.clip(values, _NEAREST_SIGMA_M**2, _FARTHEST_SIGMA_M**2)
    lower = np.linalg.cholesky((axes * bounded[:, None, :]) @ np.swapaxes(axes, 1, 2))
    factors[finite] = lower[:, _LOWER[0], _LOWER[1]]
    factors[finite[(values <= 0).any(axis=1)]] = np.nan
    return factors
