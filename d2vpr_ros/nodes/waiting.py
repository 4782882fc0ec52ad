"""Images that wait until the pose after them has come, and whatever else goes with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from d2vpr_ros.fields import stamp_ns

_MOST_BYTES = 256_000_000
_LONGEST_S = 5.0  # SLAM systems that optimise before they publish take a second or two


@dataclass(frozen=True)
class Arrival:
    """An image message, its stamp, when it came by the steady clock, and the number of its camera."""

    message: Any
    stamp_ns: int
    steady_s: float
    camera: int = 0


class WaitingImages:
    """In the order they came."""

    def __init__(self) -> None:
        self._images: deque[Arrival] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._images)

    def add(self, message: Any, steady_s: float, camera: int = 0) -> None:
        self._images.append(Arrival(message, stamp_ns(message.header), steady_s, camera))
        self._bytes += len(message.data)

    def ready(self, is_settled: Callable[[Arrival], bool], now_s: float) -> list[Arrival]:
        """Those that have what they wait for, and those for which it will not be waited any longer; handed out."""
        taken = []
        while self._images and (
            self._bytes > _MOST_BYTES or now_s - self._images[0].steady_s > _LONGEST_S or is_settled(self._images[0])
        ):
            arrival = self._images.popleft()
            self._bytes -= len(arrival.message.data)
            taken.append(arrival)
        return taken
