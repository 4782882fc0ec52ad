"""What a build made of the images it saw."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

TOO_CLOSE = "too close to the last place"
REPEATED = "repeating the last place"
NO_POSE = "without a pose"
UNREADABLE = "unreadable"
TOO_SLOW = "lost because describing was too slow"


@dataclass(eq=False)
class BuildCounts:
    """Attributes:
    places: stored by this run.
    earlier: images passed over because an interrupted run had got beyond them.
    left_out: images by why they became no place.
    """

    places: int = 0
    earlier: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def leave_out(self, reason: str, images: int = 1) -> None:
        if images:
            self.left_out[reason] += images

    def __str__(self) -> str:
        """Such as `212 places from 302 images; left out: 80 too close to the last place, 10 blurred`."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.most_common())
        more = "more " if self.earlier else ""
        behind = f", after {self.earlier} of an interrupted run" if self.earlier else ""
        images = self.places + self.left_out.total()
        return f"{self.places} {more}places from {images} images{behind}; left out: {reasons or 'none'}"
