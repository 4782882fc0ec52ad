"""From descriptors and motion to an answer, or to silence."""

from d2vpr_ros.localize.decision import Acceptance
from d2vpr_ros.localize.estimate import Estimate, Match, RejectReason, State
from d2vpr_ros.localize.localizer import Localizer
from d2vpr_ros.localize.options import LocalizerOptions, Verify

__all__ = ["Acceptance", "Estimate", "Localizer", "LocalizerOptions", "Match", "RejectReason", "State", "Verify"]
