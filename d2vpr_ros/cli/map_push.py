"""Upload the places of a map to a Milvus database, so that many robots can search there.

Run it again after every change of the map, and after an interrupted upload. It uploads descriptors, sessions and
positions, but no pictures. A collection of another map, model or frame is refused. Credentials are read from the
environment variable MILVUS_TOKEN.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file")
    parser.add_argument(
        "--to", required=True, metavar="URI", help="http://host:19530, or a file ending in .db for Milvus Lite"
    )
    parser.add_argument("--collection", default="", metavar="NAME", help="default: the name of the map file")


def main(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from d2vpr_ros.errors import UserError
    from d2vpr_ros.mapping import milvus, read_map
    from d2vpr_ros.mapping.milvus_push import push_map

    if not milvus.is_uri(args.to):
        raise UserError(f"--to {args.to.rpartition('@')[2]}: expected {milvus.EXPECTED}")
    place_map = read_map(args.map)
    collection = milvus.collection_name(place_map, args.collection)
    with tqdm(total=len(place_map), unit="places", disable=None) as bar:
        gone = push_map(place_map, args.to, collection, lambda places: bar.update(places - bar.n))
    print(f"{args.to}: collection {collection} holds the {len(place_map)} places of {args.map}")
    if gone:
        print(f"{gone} places that are no longer in the map were removed")
    print(f"search there with: -p map:={args.map} -p search_backend:={args.to} -p search_collection:={collection}")
    return 0
