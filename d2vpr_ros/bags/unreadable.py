"""Why a recording cannot be read, by name, and what helps: a whole file is never called damaged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from d2vpr_ros.errors import UserError

KINDS = "a rosbag2 directory (with metadata.yaml), a .mcap, a .db3 or a rosbag1 .bag file"

_WAL_HEADER = 32  # bytes
_UNFINISHED = ("File end magic", "Truncated record", "Invalid MCAP footer", "Invalid MCAP summary")
_METADATA = ("metadata", "YAML")


def explain(path: Path, error: BaseException) -> UserError:
    """What to tell of a recording that a parser gave up on.

    Args:
        path: of the recording.
        error: what the parser raised.
    """
    said = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
    if said.startswith("Some database files are missing"):
        return _renamed(path)
    if said.startswith("Serialization format"):
        formats = ", ".join(re.findall(r"'(\w+)'", said))
        return UserError(
            f"{path}: some of its topics are {formats}, not ROS 2's cdr (metadata.yaml); give the .mcap file alone; "
            "those topics are then left out"
        )
    if re.match(r"Storage plugin|Compression format|Unsupported chunk compression", said):
        return UserError(
            f"{path}: {said[0].lower()}{said[1:]}; rewrite it: `ros2 bag convert -i {path} -o options.yaml` with "
            "storage_id: mcap and no compression"
        )
    if said.startswith("Rosbag2 version"):
        return UserError(f"{path}: {said}; update d2vpr_ros and rosbags, or `ros2 bag convert` it to an older version")
    if re.match(r"Bag version|Bag encryption", said):
        return UserError(f"{path}: {said}; rewrite it with the ROS 1 that recorded it")
    if path.suffix == ".bag" and "not indexed" in said:
        return UserError(f"{path}: the recorder did not finish ({said}); run `rosbag reindex {path}`")
    if any(word in said for word in _METADATA):
        return UserError(
            f"{path}: its metadata.yaml is damaged ({said}); remove that and run `ros2 bag reindex {path}`, or give "
            "the file beside it"
        )
    if path.suffix == ".mcap" and said.startswith(_UNFINISHED):
        return UserError(
            f"{path}: the recorder did not finish, or the file is cut off or damaged ({said}); recover the intact "
            "part: "
            f"`mcap recover {path} -o whole.mcap` (github.com/foxglove/mcap)"
        )
    rescue = "rosbag reindex" if path.suffix == ".bag" else "mcap recover` (mcap) or `ros2 bag reindex"
    return UserError(
        f"{path}: the bag is cut off or damaged ({said}); recover the intact part with `{rescue}`, or record it again"
    )


def foreign(path: Path, channels: Sequence[tuple[str, str]], profile: str) -> UserError:
    """What to tell of a whole file in which nothing is ROS 2's.

    Args:
        channels: names and encodings.
    """
    named = ", ".join(f"{name} ({encoding})" for name, encoding in channels[:10])
    if profile == "ros1" or any(encoding == "ros1" for _, encoding in channels):
        return UserError(f"{path}: an mcap file of ROS 1, not ROS 2: {named}; give the .bag that it was converted from")
    return UserError(f"{path}: a whole mcap file, but no channel of it is ROS 2's (cdr): {named}; record ROS topics")


def check_logs(path: Path) -> None:
    """Refuse an sqlite3 bag of which a part is still in the log that a killed recorder left beside it.

    rosbags reads the file alone, without a word.

    Raises:
        UserError: with the cure, which any Python can do.
    """
    for file in sorted(path.glob("*.db3")) if path.is_dir() else [path]:
        log = file.with_name(f"{file.name}-wal")
        if file.suffix == ".db3" and log.exists() and log.stat().st_size > _WAL_HEADER:
            raise UserError(
                f"{file}: the recorder was killed or still runs: {log.stat().st_size / 1e6:.1f} MB of messages are "
                f'only in {log.name} beside it; add them to the file first: python3 -c "import sqlite3; '
                f"sqlite3.connect('{file}').execute('PRAGMA wal_checkpoint(TRUNCATE)')\""
            )


def without_metadata(path: Path, magic: Sequence[str]) -> UserError:
    """What to tell of a directory that has no metadata.yaml."""
    parts = sorted(p.name for p in path.iterdir() if p.suffix in magic)
    if parts:
        others = f" (and {', '.join(parts[1:])}, each alone)" if len(parts) > 1 else ""
        return UserError(
            f"{path}: has {parts[0]} but no metadata.yaml (the recorder did not finish); run "
            f"`ros2 bag reindex {path}`, or give {path / parts[0]} itself{others}"
        )
    packed = sorted(p.name for p in path.iterdir() if p.suffix == ".zstd")
    if packed:
        return UserError(
            f"{path}: has {', '.join(packed)} but no metadata.yaml (the recorder did not finish); unpack them with "
            f"`zstd -d {path / packed[0]}`, then give {path / packed[0].removesuffix('.zstd')} itself"
        )
    active = sorted(p.name for p in path.iterdir() if p.name.endswith(".bag.active"))
    if active:
        return unfinished_rosbag1(path / active[0])
    return UserError(f"{path}: a directory without metadata.yaml is not a bag; expected {KINDS}")


def unfinished_rosbag1(path: Path) -> UserError:
    """What to tell of a .bag.active."""
    whole = path.with_name(path.name.removesuffix(".active"))
    return UserError(
        f"{path}: the recorder of ROS 1 did not finish; run `rosbag reindex {path}`, then `mv {path} {whole}` and give "
        "that"
    )


def _renamed(path: Path) -> UserError:
    """Of a directory whose metadata.yaml names files that are not there."""
    described = yaml.safe_load((path / "metadata.yaml").read_text(encoding="utf-8"))
    names = [Path(str(name)).name for name in described["rosbag2_bagfile_information"]["relative_file_paths"]]
    missing = [name for name in names if not (path / name).exists()]
    found = sorted(p.name for p in path.iterdir() if p.suffix in (".mcap", ".db3", ".zstd") and p.name not in names)
    if len(found) == len(missing):
        moves = " && ".join(f"mv {path / b} {path / a}" for a, b in zip(missing, found, strict=True))
        return UserError(
            f"{path}: metadata.yaml names {', '.join(missing)}, and {', '.join(found)} is there instead: were they "
            f"renamed? `{moves}` restores the names (check the order)"
        )
    return UserError(
        f"{path}: metadata.yaml names {', '.join(missing)}, which is missing; put it back, or give the other files, "
        "each alone"
    )
