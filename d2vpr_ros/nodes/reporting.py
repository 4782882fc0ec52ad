"""The values of the localizer's /diagnostics."""

from __future__ import annotations

from d2vpr_ros.localize import Estimate
from d2vpr_ros.multiview.lens import camera_lens
from d2vpr_ros.nodes.answering import Answering
from d2vpr_ros.nodes.loading import Loaded
from d2vpr_ros.nodes.settings import Settings
from d2vpr_ros.nodes.tf_output import TfOutput


def report_values(
    answering: Answering, loaded: Loaded, settings: Settings, tf: TfOutput | None, now_s: float
) -> dict[str, object]:
    """By key, as the reference lists them.

    Args:
        now_s: by the steady clock.
    """
    newest, localizer, inputs = answering.newest, loaded.localizer, answering.inputs
    mounts = answering.mounts.mounts_from
    image_ns = newest.stamp_ns if newest else None
    return {
        "probability": f"{newest.probability:.3f}" if newest else "nan",
        **_evidence(newest, settings),
        "places": len(localizer.map),
        "answers": "poses" if localizer.map.header.metric else "matches only: the map has no metres",
        **answering.status.values(now_s),
        **({} if settings.cameras[0].name else {"mount": mounts[0], "intrinsics": _intrinsics(answering, loaded)}),
        **_by_camera(answering, loaded, settings, now_s),
        "odometry": inputs.odometry_status(image_ns, now_s),
        "gps": answering.session.gps_status(newest),
        "tf": tf.status if tf else "off",
        "device": str(localizer.extractor.device),
        "search_backend": localizer.search.status,
    }


def _evidence(newest: Estimate | None, settings: Settings) -> dict[str, object]:
    """What the newest answer, or silence, rests on."""
    standing = newest and newest.standing
    inliers = newest.matches[0].inliers if newest and newest.matches else 0
    return {
        "z_score": f"{standing.fit:.1f}" if standing else "nan",
        "inliers": inliers,
        "log_odds": f"{standing.real:.1f}" if standing else "nan",
        "off_map": f"{standing.off_map:.3f}" if standing else "nan",
        "off_map_prior": f"{settings.options.off_map_prior:g}",
    }


def _intrinsics(answering: Answering, loaded: Loaded, camera: int = 0) -> str:
    """Where a camera's intrinsics are from."""
    geometry, known = loaded.localizer.geometry, answering.session.calibrations.get(camera)
    if geometry is None:
        return "not used: images are not compared with landmarks"
    return geometry.intrinsics(camera_lens(known), camera)


def _by_camera(answering: Answering, loaded: Loaded, settings: Settings, now_s: float) -> dict[str, object]:
    """Of cameras with names, so that one that is silent is seen beside those that are not."""
    found: dict[str, object] = {}
    for number, camera in enumerate(settings.cameras):
        if camera.name:
            values = answering.statuses[number].values(now_s)
            found |= {f"{camera.name}.{key}": values[key] for key in ("input_hz", "input_age_s")}
            found[f"{camera.name}.mount"] = answering.mounts.mounts_from[number]
            found[f"{camera.name}.intrinsics"] = _intrinsics(answering, loaded, number)
    return found
