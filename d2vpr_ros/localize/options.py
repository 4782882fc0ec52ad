"""What a user can set of the localizer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from d2vpr_ros.localize.decision import DEFAULT_ACCEPTANCE, Acceptance


class Verify(str, Enum):
    """When an image is compared with the picture of its place. ALWAYS is for measuring."""

    NEVER = "never"
    WHEN_IT_DECIDES = "when_it_decides"
    ALWAYS = "always"


@dataclass(frozen=True)
class LocalizerOptions:
    """Attributes:
    sequence: believe in a place by all images so far; without, each image stands alone.
    top_speed_mps: bounds the motion between images where there is no odometry; in a map without metres it is how many
        times as fast as the recording a robot may go.
    verify: when an image is compared with the picture of its place.
    acceptance: when an answer counts.
    """

    sequence: bool = True
    top_speed_mps: float = 2.0
    verify: Verify = Verify.WHEN_IT_DECIDES
    acceptance: Acceptance = DEFAULT_ACCEPTANCE


DEFAULT_OPTIONS = LocalizerOptions()
