"""Check a running ROS system: topics, QoS, rates, stamps, camera mount, odometry, GPS, map, model, device.

Every line is one finding: OK, WARN or FAIL, and after the dash what to do. The exit status is 1 if a line says FAIL.
Without --topic it lists the image topics. It listens for a few seconds and publishes nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2vpr_ros.nodes.doctor_facts import GpsFacts, ImageFacts, SystemFacts
    from d2vpr_ros.nodes.doctor_lines import Line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", action="append", default=[], help="image topic; repeat it for each camera")
    parser.add_argument("--odom", metavar="TOPIC", help="topic of the odometry (default: /odom, or the only one)")
    parser.add_argument(
        "--map", default="", metavar="FILE", help="map to localize in (default: that of the parameter file)"
    )
    parser.add_argument(
        "--params-file", type=Path, metavar="FILE", help="parameter file of the localizer, as for launch"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="seconds to listen, 0.1 to 60 (default: 3)"
    )


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.nodes import doctor_inspect, doctor_machine
    from d2vpr_ros.nodes.doctor_facts import MiddlewareFacts
    from d2vpr_ros.share import share_folder

    if not 0.1 <= args.seconds <= 60:
        raise UserError(f"--seconds is {args.seconds:g}; expected 0.1 to 60")
    given = doctor_inspect.read_parameters(args.params_file) if args.params_file else {}
    lines: list[Line] = []
    profile = str(share_folder() / "config" / "fastdds.xml")
    images: tuple[ImageFacts, ...] = ()
    map_path = args.map or str(given.get("map", ""))
    try:
        from d2vpr_ros.nodes import doctor
    except ImportError as error:
        middleware = MiddlewareFacts(trouble=f"cannot be imported ({str(error).splitlines()[0]})")
        lines += _say(doctor_machine.check_middleware(middleware, profile, ()))
    else:
        if args.params_file:
            lines += _say(doctor_machine.check_parameters(str(args.params_file), given, doctor.defaults(given)))
        parameters = {**doctor.defaults(given), **given, "map": map_path}
        system = doctor.observe(args.topic, args.odom, parameters, args.seconds)
        images = system.images
        middleware = doctor_inspect.inspect_middleware(doctor.rmw())
        lines += _say(doctor_machine.check_middleware(middleware, profile, images))
        lines += _say(_check_system(system, parameters, middleware.domain, args.seconds, bool(map_path)))
        lines += _say(_check_gps(system.gps, parameters, args.seconds, map_path))
    device, found = doctor_inspect.inspect_device(given, map_path)
    lines += _say(doctor_machine.check_map(found))
    rate_hz = max((image.stream.rate_hz for image in images), default=0.0)
    lines += _say(doctor_machine.check_device(device, 1 / rate_hz if rate_hz else 0.0))
    return 1 if any(line.failed for line in lines) else 0


def _check_system(
    system: SystemFacts, parameters: Mapping[str, Any], domain: str, seconds: float, has_map: bool
) -> Iterable[Line]:
    from d2vpr_ros.nodes import doctor_checks as checks
    from d2vpr_ros.nodes import doctor_tf
    from d2vpr_ros.nodes.doctor_facts import SimTime

    base = str(parameters["base_frame"])
    if not system.images:
        yield from checks.check_topics_without_one(list(system.image_topics.items()), domain)
    time = SimTime(bool(parameters.get("use_sim_time", False)), system.clock)
    for image, info, mount in zip(system.images, system.camera_infos, system.mounts, strict=True):
        yield from checks.check_image(image, list(system.image_topics), seconds, float(parameters["max_age_s"]), time)
        if image.stream.stamps_ns:
            yield checks.check_camera_info(info, image)
            yield doctor_tf.check_mount(mount, has_map)
    top_speed_mps = float(parameters["top_speed_mps"])
    yield from checks.check_odometry(
        system.odometry, system.odometry_topics, base, system.images, seconds, top_speed_mps
    )
    if system.tf_elsewhere:
        yield doctor_tf.check_namespace(system.tf_elsewhere)
    if parameters["publish_tf"]:
        yield doctor_tf.check_published_tf(system, str(parameters["map_frame"]), str(parameters["odom_frame"]))


def _check_gps(gps: GpsFacts | None, parameters: Mapping[str, Any], seconds: float, map_path: str) -> Iterable[Line]:
    from dataclasses import replace

    from d2vpr_ros.nodes import doctor_checks, doctor_inspect

    if gps is not None and gps.fixes and map_path:
        gps = replace(gps, to_map_m=doctor_inspect.metres_to_map(map_path, gps.fixes[-1]))
    return doctor_checks.check_gps(gps, seconds, float(parameters["gps_gate_least_m"]))


def _say(lines: Iterable[Line]) -> list[Line]:
    said = list(lines)
    for line in said:
        print(line, flush=True)
    return said
