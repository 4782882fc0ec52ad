"""GSV-Cities (arXiv 2210.10239) as it is distributed: Dataframes/<City>.csv and Images/<City>/<name>.jpg."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from d2vpr_ros.errors import UserError
from models.data import read_rgb
from models.places import Places, fingerprint_of

COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
PLACES_A_CITY = 100_000
"""Place ids are counted anew in every city: city number n has n * 100 000 added."""


def image_name(row: dict[str, str]) -> str:
    """City_0000123_2015_07_045_LAT_LON_PANOID.jpg; latitude and longitude are written as Python writes a float.

    Raises:
        ValueError: a number is none.
    """
    place = int(row["place_id"]) % PLACES_A_CITY
    numbers = f"{place:07d}_{int(row['year']):04d}_{int(row['month']):02d}_{int(row['northdeg']):03d}"
    return f"{row['city_id']}_{numbers}_{float(row['lat'])}_{float(row['lon'])}_{row['panoid']}.jpg"


def city_names(root: Path, wanted: Sequence[str] | str) -> list[str]:
    """The cities asked for ("all": every csv file there is, by name).

    Raises:
        UserError: a folder or a city is not there.
    """
    for folder in ("Dataframes", "Images"):
        if not (root / folder).is_dir():
            raise UserError(
                f"{root / folder}: no such folder; expected GSV-Cities as distributed, with Dataframes/ and Images/"
            )
    known = sorted(path.stem for path in (root / "Dataframes").glob("*.csv"))
    if not known:
        raise UserError(f"{root / 'Dataframes'}: no csv files; expected one for each city")
    if isinstance(wanted, str):
        wanted = known if wanted == "all" else [wanted]
    lacking = [name for name in wanted if name not in known]
    if lacking:
        raise UserError(f"{root / 'Dataframes'}: no {lacking[0]}.csv; there are {', '.join(known)}")
    return list(wanted)


def city_rows(table: Path) -> Iterator[tuple[int, str, str]]:
    """(place id, the folder's name, the image's name) of every line of a city's csv.

    Raises:
        UserError: a column is missing, or a line does not hold numbers where they belong.
    """
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if lacking:
            raise UserError(f"{table}: no column {', '.join(lacking)}; expected {','.join(COLUMNS)}")
        for row in reader:
            try:
                name = image_name(row)
                if Path(name).name != name or Path(row["city_id"]).name != row["city_id"]:
                    raise ValueError("a name with a path in it")
                yield int(row["place_id"]), row["city_id"], name
            except (TypeError, ValueError) as error:
                raise UserError(f"{table} line {reader.line_num}: not a line of GSV-Cities ({error})") from None


def sizes_of(folder: Path) -> dict[str, int]:
    """Bytes of every file in a folder, read at once: asking for each of half a million images would take minutes."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected the images of this city")
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def read_gsv_cities(root: Path, cities: Sequence[str] | str = "all") -> Places:
    """All places of the cities, with however many images each has.

    The fingerprint covers the tables and the names and sizes of the images.

    Raises:
        UserError: a folder, a city, a column or an image is missing.
    """
    files: list[Path] = []
    rows: dict[int, list[int]] = {}
    groups: dict[int, str] = {}
    parts: list[str] = []
    names = city_names(root, cities)
    for number, city in enumerate(names):
        table = root / "Dataframes" / f"{city}.csv"
        parts += [city, hashlib.sha256(table.read_bytes()).hexdigest()]
        sizes: dict[str, dict[str, int]] = {}
        for place, folder_name, name in city_rows(table):
            folder = root / "Images" / folder_name
            if folder_name not in sizes:
                sizes[folder_name] = sizes_of(folder)
            size = sizes[folder_name].get(name)
            if size is None:
                raise UserError(f"{folder / name}: this image of {table} is missing; unpack {city} again")
            key = number * PLACES_A_CITY + place
            groups[key] = city
            rows.setdefault(key, []).append(len(files))
            files.append(folder / name)
            parts.append(f"{name} {size}")
    return Places(
        [np.array(of_place, np.int64) for of_place in rows.values()],
        list(groups.values()),
        lambda row: read_rgb(files[row]),
        fingerprint_of(parts),
        f"GSV-Cities: {len(files)} images of {len(rows)} places in {len(names)} cities",
    )
