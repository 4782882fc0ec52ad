"""From descriptors, landmarks and motion to an answer, or to silence."""

from d2vpr_ros.localize.localizer import Localizer
from d2vpr_ros.localize.types import (
    Acceptance,
    Estimate,
    LocalizerOptions,
    Match,
    RejectReason,
    State,
    Verify,
)

__all__ = ["Acceptance", "Estimate", "Localizer", "LocalizerOptions", "Match", "RejectReason", "State", "Verify"]
