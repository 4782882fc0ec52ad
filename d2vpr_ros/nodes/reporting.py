"""The values of the localizer's /diagnostics."""

from __future__ import annotations

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
        "places": len(localizer.map),
        "answers": "poses" if localizer.map.header.metric else "matches only: the map has no metres",
        **answering.status.values(now_s),
        **({"mount": mounts[0]} if not settings.cameras[0].name else {}),
        **_by_camera(answering, settings, now_s),
        "odometry": inputs.odometry_status(image_ns, now_s),
        "gps": answering.session.gps_status(newest),
        "tf": tf.status if tf else "off",
        "device": str(localizer.extractor.device),
        "search_backend": localizer.search.status,
    }


def _by_camera(answering: Answering, settings: Settings, now_s: float) -> dict[str, object]:
    """Of cameras with names, so that one that is silent is seen beside those that are not."""
    found: dict[str, object] = {}
    for number, camera in enumerate(settings.cameras):
        if camera.name:
            values = answering.statuses[number].values(now_s)
            found |= {f"{camera.name}.{key}": values[key] for key in ("input_hz", "input_age_s")}
            found[f"{camera.name}.mount"] = answering.mounts.mounts_from[number]
    return found
