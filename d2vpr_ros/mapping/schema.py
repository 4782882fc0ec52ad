"""The tables of a map file: an OGC GeoPackage 1.3 (OGC 12-128r17) with tables of its own beside the point layer.

QGIS and GDAL show `places` as points and `sessions` as a plain table. Everything else is not registered with them.
"""

from __future__ import annotations

import struct

APPLICATION_ID = 0x47504B47
"""'GPKG' (requirement 2)."""
USER_VERSION = 10300
"""GeoPackage 1.3."""

WGS84 = 4326
CARTESIAN = -1
"""The GeoPackage's name for an undefined Cartesian system: metres in the map frame."""

CALIBRATION_KEY = "calibration_"
"""Begins the keys of d2vpr_meta under which weights are, as a JSON object, for each way to localize."""

IMAGE_RANGE_KEY = "image_range"
"""The key of d2vpr_meta of the 16-bit values that become black and white, such as `0 4095`; not there for all."""

LANDMARKS_KEY = "landmarks"
"""The key of d2vpr_meta that says, as a JSON object, with what the table `landmarks` was made."""

_WGS84_WKT = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
)

TABLES = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {USER_VERSION};
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
INSERT INTO gpkg_spatial_ref_sys VALUES
  ('Undefined Cartesian SRS', -1, 'NONE', -1, 'undefined', 'metres in the map frame'),
  ('Undefined geographic SRS', 0, 'NONE', 0, 'undefined', NULL),
  ('WGS 84 geodetic', 4326, 'EPSG', 4326, '{_WGS84_WKT}', 'longitude and latitude in degrees');
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
  geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name), CONSTRAINT uk_gc_table_name UNIQUE (table_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
CREATE TABLE d2vpr_meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);
CREATE TABLE sessions (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL,
  complete BOOLEAN NOT NULL);
CREATE TABLE cameras (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, session INTEGER NOT NULL, name TEXT NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, distortion_model TEXT NOT NULL, k BLOB, d BLOB,
  x DOUBLE NOT NULL, y DOUBLE NOT NULL, z DOUBLE NOT NULL,
  qx DOUBLE NOT NULL, qy DOUBLE NOT NULL, qz DOUBLE NOT NULL, qw DOUBLE NOT NULL, UNIQUE (session, name));
CREATE TABLE places (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POINT, session INTEGER NOT NULL,
  camera INTEGER NOT NULL, stamp DATETIME NOT NULL, stamp_ns INTEGER NOT NULL,
  x DOUBLE NOT NULL, y DOUBLE NOT NULL, z DOUBLE NOT NULL,
  qx DOUBLE NOT NULL, qy DOUBLE NOT NULL, qz DOUBLE NOT NULL, qw DOUBLE NOT NULL,
  heading DOUBLE, latitude DOUBLE, longitude DOUBLE, altitude DOUBLE, covariance BLOB);
CREATE TABLE descriptors (place INTEGER PRIMARY KEY NOT NULL, descriptor BLOB NOT NULL);
CREATE TABLE pictures (place INTEGER PRIMARY KEY NOT NULL, jpeg BLOB NOT NULL);
INSERT INTO gpkg_contents (table_name, data_type, identifier, description) VALUES
  ('sessions', 'attributes', 'sessions', 'recorded drives');
"""
# Descriptors and pictures have tables of their own so that opening a map reads no JPEG.

LANDMARKS_TABLE = "CREATE TABLE landmarks (place INTEGER PRIMARY KEY NOT NULL, points BLOB NOT NULL)"
"""In maps that `d2vpr map landmarks` was run on; others do without."""

_LAYER = (
    "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) "
    "VALUES ('places', 'features', 'places', 'where images were taken', ?)"
)
_COLUMN = "INSERT INTO gpkg_geometry_columns VALUES ('places', 'geom', 'POINT', ?, 0, 0)"


def layer_rows(geo_tagged: bool) -> list[tuple[str, tuple[int]]]:
    """The statements that register `places` as a point layer, with their values."""
    srs = (WGS84 if geo_tagged else CARTESIAN,)
    return [(_LAYER, srs), (_COLUMN, srs)]


def point(x: float, y: float, geo_tagged: bool) -> bytes:
    """A GeoPackage point: header (2.1.3), then little-endian well-known binary; x is the longitude if geo-tagged."""
    header = struct.pack("<2sBBi", b"GP", 0, 1, WGS84 if geo_tagged else CARTESIAN)
    return header + struct.pack("<BIdd", 1, 1, x, y)
