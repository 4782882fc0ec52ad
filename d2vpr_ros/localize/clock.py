"""How old an image is, when its stamps and the node's clock need not agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_CLOCKS_DIFFER_S = 60.0
_JUMP_BACK_NS = 1_000_000_000


@dataclass
class StampWatch:
    """Judges each image's stamp against the node's clock.

    Attributes:
        clocks_differ: the first image was over 60 s off the node's clock (a bag without `--clock`, say), so ages are
            measured from arrival and stamps only order the images.
    """

    clocks_differ: bool | None = None
    _newest_ns: int | None = None

    def age_s(self, stamp_ns: int, now_ns: int, since_arrival_s: float) -> float:
        """Seconds since the image was taken (since it arrived, where the clocks differ); negative for the future.

        Args:
            now_ns: the node's clock; 0 as long as simulated time has not begun, which decides nothing.
            since_arrival_s: by a steady clock.
        """
        if now_ns == 0:
            return since_arrival_s
        stamped = (now_ns - stamp_ns) * 1e-9
        if self.clocks_differ is None:
            self.clocks_differ = abs(stamped) > _CLOCKS_DIFFER_S
        return since_arrival_s if self.clocks_differ else stamped

    def jumped_back(self, stamp_ns: int) -> bool:
        """Whether time went back by more than 1 s since the last image: the recording was started again."""
        jumped = self._newest_ns is not None and stamp_ns < self._newest_ns - _JUMP_BACK_NS
        self._newest_ns = stamp_ns if jumped or self._newest_ns is None else max(self._newest_ns, stamp_ns)
        return jumped

    def jumped_back_for(self, stamp_ns: int, every: Iterable[StampWatch]) -> bool:
        """The same where there are several cameras: the others' images will go back, too, which is no second start."""
        jumped = self.jumped_back(stamp_ns)
        for watch in every:
            if jumped and watch is not self:
                watch._newest_ns = None
        return jumped
