"""Which views show one place, and the loss that tells a batch's places from those of all views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.data import Picture
from models.small_views import Views

UNDECIDED_S = 1
"""Frames of a video that are so many seconds apart at most are neither told apart nor brought together."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What each view shows.

    Attributes:
        place: (N,) int64; every look at a picture is one of that picture's own place. The town's come first.
        video: (N,) int64, equal for views of one video; every other place is a video of its own.
        second: (N,) int64, when in the video.
        town_views: how many of the views are of towns.
    """

    place: npt.NDArray[np.int64]
    video: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    town_views: int

    def pairs(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(B,) numbers of views -> two (B, N) bool: views of the same place, and those that do not count.

        A view itself does not count.
        """
        near = self.video[rows, None] == self.video
        apart = np.abs(self.second[rows, None] - self.second)
        same = self.place[rows, None] == self.place
        itself = rows[:, None] == np.arange(len(self.place))
        unclear = (near & (apart <= UNDECIDED_S) & ~same) | itself
        return torch.from_numpy(same & ~itself), torch.from_numpy(unclear)


def shown_by(views: Views, pictures: list[Picture]) -> Shown:
    """Args:
    pictures: those of `views.real`, in order.
    """
    town = np.arange(views.town_views) // views.town.shape[2]
    towns = views.town_views // views.town.shape[2]
    videos = {name: number for number, name in enumerate(sorted({picture.video for picture in pictures}))}
    is_street = np.array([picture.video == "lund" for picture in pictures])  # photographs, not frames of one walk
    video = np.array([videos[picture.video] for picture in pictures])
    video = np.where(is_street, len(videos) + np.arange(len(pictures)), video)
    second = np.array([picture.second for picture in pictures])
    return Shown(
        np.concatenate([town, towns + views.picture]),
        np.concatenate([-1 - town, video[views.picture]]),
        np.concatenate([np.zeros_like(town), second[views.picture]]),
        views.town_views,
    )


def place_loss(
    descriptors: Tensor, known: Tensor, same: Tensor, uncounted: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """NT-Xent of a batch against the last descriptors of all views (cross-batch memory, arXiv 1912.06798).

    Args:
        descriptors: (B, D), unit length.
        known: (N, D), unit length, without gradient.
        same, uncounted: (B, N), see `Shown.pairs`; every row has a view of the same place.

    Returns:
        the loss, and the share of the batch whose most alike view shows its place.
    """
    similarity = (descriptors @ known.T / temperature).masked_fill(uncounted, -torch.inf)
    others = torch.logsumexp(similarity.masked_fill(same, -torch.inf), dim=1, keepdim=True)
    of_same = (similarity - torch.logaddexp(similarity, others)).masked_fill(~same, 0)
    with torch.no_grad():
        best = similarity.masked_fill(~same, -torch.inf).amax(dim=1)
        right = (best > similarity.masked_fill(same, -torch.inf).amax(dim=1)).float().mean()
    return -(of_same.sum(dim=1) / same.sum(dim=1)).mean(), right
