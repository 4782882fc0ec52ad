"""What `d2vpr doctor` finds out about this machine without ROS."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import yaml

from d2vpr_ros.errors import UserError
from d2vpr_ros.nodes.doctor_facts import DeviceFacts, MapFacts, MiddlewareFacts

if TYPE_CHECKING:
    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.localize.gps import GpsFix

_NODE = "d2vpr_localizer"
_GPU_SIGNS = ("/proc/driver/nvidia/version", "/etc/nv_tegra_release")
# Fast DDS 3 renamed the variable and no longer reads the old one; 2 does not read the new one.
_WITH_FAST_DDS_3 = ("kilted", "lyrical", "rolling")


def profile_variable(distribution: str) -> str:
    """The environment variable that names Fast DDS's profiles in a ROS 2 distribution."""
    return ("FASTDDS" if distribution in _WITH_FAST_DDS_3 else "FASTRTPS") + "_DEFAULT_PROFILES_FILE"


def read_parameters(path: Path) -> dict[str, object]:
    """The parameters that a ROS parameter file has for the localizer, by their full names.

    Raises:
        UserError: no such file, or none of parameters.
    """
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"--params-file {path} cannot be read ({error.strerror}); name the file you launch with"
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--params-file {path} is no YAML: {reason}; config/localize.yaml is an example") from None
    found: dict[str, object] = {}
    for name, section in sections.items() if isinstance(sections, dict) else ():
        parts = str(name).split("/")
        if parts[-1] in (_NODE, "**", "*") and isinstance(section, dict):
            found |= _flat(section.get("ros__parameters"), "")
    if not found:
        raise UserError(f"--params-file {path} has no parameters for {_NODE}; expected '{_NODE}: ros__parameters: ...'")
    return found


def inspect_device(parameters: Mapping[str, object], map_path: str) -> tuple[DeviceFacts, MapFacts | None]:
    """Run the network once, and open the map, if one is named, with it."""
    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.mapping import read_map
    from d2vpr_ros.nodes.loading import some_pictures

    names = ("weights", "backend", "precision", "device", "projection")
    chosen: dict[str, Any] = {name: str(parameters[name]) for name in names if name in parameters}
    if map_path and chosen.get("precision") == "fast":
        with suppress(UserError):  # what is wrong with a map is told below
            chosen["images"] = some_pictures(read_map(map_path))  # tried on them, as in the node
    try:
        extractor = Extractor.open(**chosen)
    except UserError as error:
        return DeviceFacts(trouble=str(error)), inspect_map(map_path, None, parameters) if map_path else None
    network = extractor.network
    describe_s = _described_s(extractor)
    one_thread_s = 0.0
    if extractor.device == "cpu" and network.threads > 1:
        with network.one_thread() as alone:
            one_thread_s = _described_s(replace(extractor, network=alone))
    device = DeviceFacts(
        library=network.library,
        device=extractor.device,
        threads=network.threads,
        has_gpu=any(Path(sign).exists() for sign in _GPU_SIGNS),
        describe_s=describe_s,
        one_thread_s=one_thread_s,
    )
    return device, inspect_map(map_path, extractor, parameters) if map_path else None


def inspect_map(path: str, extractor: Extractor | None, parameters: Mapping[str, object]) -> MapFacts:
    """Open a map, hold it against what describes images, if there is that, and open what compares images with it."""
    from d2vpr_ros.localize import Verify
    from d2vpr_ros.mapping import check_model, read_map
    from d2vpr_ros.multiview import open_geometry

    try:
        place_map = read_map(path)
    except UserError as error:
        return MapFacts(path, trouble=str(error))
    mismatch = ""
    if extractor is not None:
        try:
            check_model(place_map, extractor.identity)
        except UserError as error:
            mismatch = str(error)
    header = place_map.header
    pictures, features = int(np.count_nonzero(place_map.picture_sizes())), ""
    if parameters.get("verify") != Verify.NEVER.value:
        try:
            open_geometry(place_map, str(parameters.get("features", "xfeat")), str(parameters.get("device", "auto")))
        except UserError as error:
            features = str(error)
    return MapFacts(path, "", mismatch, len(place_map), header.metric, header.geo_tagged, pictures, features)


def metres_to_map(path: str, fix: GpsFix) -> float | None:
    """From a fix to the nearest place of a map, on the ground; None where the map does not lie on the earth."""
    from d2vpr_ros.mapping import read_map
    from d2vpr_ros.mapping.earth import earth_of

    try:
        place_map = read_map(path)
    except UserError:  # said elsewhere
        return None
    earth = earth_of(place_map)
    if earth is None:
        return None
    away = place_map.positions[:, :2] - np.array(earth.to_map(fix.latitude, fix.longitude))
    return float(np.hypot(*away.T).min())


def inspect_middleware(rmw: str, environment: Mapping[str, str] = os.environ) -> MiddlewareFacts:
    """How Fast DDS is set up in this shell."""
    distribution = environment.get("ROS_DISTRO", "")
    variable = profile_variable(distribution)
    profile = environment.get(variable, "")
    trouble, segment = _read_profile(Path(profile)) if profile else ("", 0)
    memory = Path("/dev/shm")
    return MiddlewareFacts(
        distribution=distribution,
        rmw=rmw,
        domain=environment.get("ROS_DOMAIN_ID", "") or "0",
        variable=variable,
        profile=profile,
        profile_trouble=trouble,
        segment_bytes=segment,
        free_bytes=shutil.disk_usage(memory).free if memory.is_dir() else None,
    )


def _described_s(extractor: Extractor) -> float:
    """Seconds for one image; the pass before, which is slower, does not count."""
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    extractor.describe([image])
    began_s = time.perf_counter()
    extractor.describe([image])
    return time.perf_counter() - began_s


def _read_profile(path: Path) -> tuple[str, int]:
    """What is wrong with a profile file, and the bytes of shared memory it asks for."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        return f"cannot be read ({error})", 0
    sizes = [(element.text or "").strip() for element in root.iter() if element.tag.endswith("segment_size")]
    return "", max((int(size) for size in sizes if size.isdecimal()), default=0)


def _flat(values: object, prefix: str) -> dict[str, object]:
    """Nested names joined by dots, as ROS does."""
    if not isinstance(values, dict):
        return {}
    found: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
