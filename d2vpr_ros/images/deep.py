"""Pictures of 16 bits a channel: which of their values become black and white.

Thermal and infrared cameras fill a part of 16 bits: 12 bits from 0, or some hundred values about the temperature of the
scene. A stretch that went by each picture would make the same wall dark by day and bright by night, so it is fixed: one
for a map, which stores it for its robots.
"""

from __future__ import annotations

import logging
from functools import cache

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError

log = logging.getLogger(__name__)

Range = tuple[int, int]
"""The values that become black and white, 0 to 65535."""

WHOLE_RANGE: Range = (0, 65535)

_FEWEST, _FEW = 16, 64  # grey levels of 256: fewer are no picture; fewer are said
_LEVEL = 257  # 16-bit values


def check_range(image_range: Range, named: str) -> Range:
    """The range, if it is one.

    Raises:
        UserError: it is not, saying what `named` it.
    """
    low, high = image_range
    if not 0 <= low < high <= WHOLE_RANGE[1]:
        raise UserError(f"{named} {low} {high}: expected the 16-bit values that become black and white, such as 0 4095")
    return image_range


def stretched(values: npt.NDArray[np.uint16], image_range: Range | None, what: str) -> npt.NDArray[np.uint16]:
    """Values so that all of 16 bits is used.

    Args:
        values: of any shape, without alpha.
        image_range: None takes all of 16 bits, as long as the values fill enough of it.
        what: the picture, for the message.

    Raises:
        UserError: no range is given, and less than 16 of 256 grey levels would be left.
    """
    if image_range is None:
        low, high = int(values.min()), int(values.max())
        levels, cure = (high - low) / _LEVEL, f"give d2vpr map build --image-range {_said(low, high)}"
        if levels < _FEWEST:
            raise UserError(
                f"{what}: its values go from {low} to {high} of 65535, which leaves {max(1, round(levels))} of 256 "
                f"grey levels; {cure} (the map stores it for the robot), or publish mono8"
            )
        if levels < _FEW:
            _say_few(what, cure)
        return values
    low, high = image_range
    if image_range == WHOLE_RANGE:
        return values
    share = (values.astype(np.float32) - low) / (high - low)
    return np.rint(np.clip(share, 0, 1) * WHOLE_RANGE[1]).astype(np.uint16)


def _said(low: int, high: int) -> str:
    """A range to try: as many bits as the values take, or about a scene's values, a quarter more to each side."""
    bits = max(high, 1).bit_length()
    if low < 2**bits / 4:
        return f"0 {2**bits - 1}"
    margin = max(1, (high - low) // 4)
    return f"{max(0, low - margin)} {min(WHOLE_RANGE[1], high + margin)}"


@cache
def _say_few(what: str, cure: str) -> None:
    log.warning("%s: its values fill less than a quarter of 16 bits, so pictures are dark; %s", what, cure)
