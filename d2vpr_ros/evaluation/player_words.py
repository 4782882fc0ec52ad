"""What the player says of an image: what became of it, why there is no answer, and the numbers."""

from __future__ import annotations

from d2vpr_ros.evaluation.moments import Moment
from d2vpr_ros.evaluation.scoring import ScoredQuery, semi_axis_m
from d2vpr_ros.localize.types import RejectReason

WHY = {
    RejectReason.NO_MATCH: "No place looks more like the image than other places do.",
    RejectReason.UNCONFIRMED: "Too few images support the place, or the probability is too low.",
    RejectReason.AMBIGUOUS: "Another place, elsewhere in the map, is nearly as likely.",
    RejectReason.OFF_MAP: "It is likelier that the robot is at no place of the map.",
    RejectReason.VERIFICATION_FAILED: "The landmarks of the place are not in the image.",
    RejectReason.GPS_CONTRADICTS: "The images and GPS lead to different places.",
    RejectReason.NO_METRES: "The place is known; the map has no metres, so there is no pose.",
    RejectReason.STALE_IMAGE: "The image was too old to answer.",
}


def headline(query: ScoredQuery, unit: str) -> str:
    """What became of an image, and how sure the localizer was."""
    if query.accepted:
        said = f"Answered, {'right' if query.right else 'wrong'}{_off(query, unit)}"
    else:
        said = f"Silent: {query.reject_reason or query.state}"
    return f"{said} · probability {_probability(query)}"


def _probability(query: ScoredQuery) -> str:
    if query.probability > 0.99999:
        return "above 0.99999"
    return f"{query.probability:.5f}" if query.probability > 0.99 else f"{query.probability:.3f}"


def _off(query: ScoredQuery, unit: str) -> str:
    if query.off is None:
        return "" if query.answerable else ": the map has no such place"
    away = f"off by {query.off:.2f} m" if unit == "m" else f"off by {query.off:g} frames"
    return f": {away}" if query.turned_deg is None else f": {away} and {query.turned_deg:.0f}°"


def why(moment: Moment) -> str:
    """In a sentence; empty with a pose."""
    if not moment.believed.rows and moment.query.reject_reason == RejectReason.OFF_MAP.value:
        return "No place comes into question: all are too far from the GPS fix."
    return WHY.get(RejectReason(moment.query.reject_reason), "")


def facts(moment: Moment, unit: str) -> list[tuple[str, str]]:
    """Rows of a name and a value, of what is known."""
    query, believed = moment.query, moment.believed
    rows = [
        ("Image", f"{moment.number} of {moment.of}, {moment.seconds:.1f} s, {query.drive}, {query.image_topic}"),
        ("State", f"{query.state}{f', {query.reject_reason}' if query.reject_reason else ''}"),
    ]
    if believed.rows:
        measures = f"similarity {query.similarity:.3f}, belief {believed.beliefs[0]:.3f}"
        rows.append(("Best match", f"place {query.place_id}, {measures}"))
    if moment.inliers:
        rows.append(("Compared", f"{moment.inliers} inliers with its landmarks, by the localizer"))
    if moment.off_map is not None and moment.rival is not None:
        around = f"{sum(believed.beliefs):.3f} in the {len(believed.rows)} likeliest places"
        elsewhere = f"{moment.rival:.3f} around the best place elsewhere, {moment.off_map:.3f} off the map"
        rows.append(("Belief", f"{around}, {elsewhere}"))
    if moment.images is not None:
        rows.append(("Images behind it", f"{moment.images:.1f}, each some way from the one before"))
    if not query.accepted:
        would_be = "right" if query.right else "wrong"
        rows.append(("Would have been", f"{would_be}{_off(query, unit)}" if believed.rows else "nothing"))
    axis = semi_axis_m(query)
    if axis is not None:
        rows.append(("95 % ellipse", f"longer half axis {axis:.2f} m"))
    rows.append(("The map has the place", "yes" if query.answerable else "no"))
    return rows
