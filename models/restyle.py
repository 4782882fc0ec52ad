"""Gives a view's tokens the style of another view, without rendering: what season, light and camera do to all of them.

MixStyle (arXiv 2104.02008) on the outputs of frozen blocks: a picture's mean token and its deviation move towards those
of another picture of the batch, above and below a random line by different amounts, as snow lies on the ground only.
"""

from __future__ import annotations

import torch
from torch import Tensor

FARTHEST = 1.2
"""How far towards the other view's mean at most; 1 is all the way."""
SMALLEST = 1e-4
"""Deviation of a channel within a picture below which it is not divided by."""
SHARPNESS = 8.0
"""Of the line between above and below: the change takes about a fourth of the picture's height."""
CLASS_TOKEN = 0.5
"""The class token moves by so much of what the patches move by."""


def restyled(taps: Tensor, share: float, random: torch.Generator) -> Tensor:
    """(N, taps, 1 + side², C) -> the same, a `share` of the views with a part of another's style."""
    count, side = len(taps), int((taps.shape[2] - 1) ** 0.5)
    patches, other = taps[:, :, 1:], torch.randperm(count, generator=random)
    mean, deviation = patches.mean(dim=2, keepdim=True), patches.std(dim=2, keepdim=True) + SMALLEST
    chosen = (torch.rand(count, 1, generator=random) < share).float()
    above, below = (FARTHEST * chosen * torch.rand(count, 1, generator=random) for _ in range(2))
    line = 0.2 + 0.6 * torch.rand(count, 1, generator=random)
    height = ((torch.arange(side) + 0.5) / side).repeat_interleave(side)
    low = torch.sigmoid(SHARPNESS * (height - line))
    amount = (above * (1 - low) + below * low)[:, None, :, None].to(taps.device)
    stretched = 1 + amount.clamp(max=1) * (deviation[other] / deviation - 1)
    moved = (patches - mean) * stretched + mean + amount * (mean[other] - mean)
    whole = (CLASS_TOKEN * (above + below) / 2)[:, None, :, None].to(taps.device)
    first = taps[:, :, :1] + whole * (taps[other][:, :, :1] - taps[:, :, :1])
    return torch.cat([first, moved], dim=2)
