"""Makes other pictures of the same place: viewpoint, light, weather, season, camera. Whole batches at a time.

Everything takes (N, 3, S, S) float32 in 0..1 and gives the same; every picture of a batch gets its own draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Viewpoint:
    """How far a view may move from the picture it is made of.

    Attributes:
        shift_x, shift_y: as a share of the picture's side.
        zoom: largest factor by which the picture is enlarged or (by two thirds of the exponent) shrunk.
        roll_deg: in-plane turn.
        keystone: perspective, as the change of scale between opposite edges.
    """

    shift_x: float = 0.25
    shift_y: float = 0.1
    zoom: float = 1.35
    roll_deg: float = 6.0
    keystone: float = 0.25


MILD = Viewpoint(0.06, 0.04, 1.15, 3.0, 0.08)


def uniform(count: int, low: float, high: float) -> Tensor:
    """(count, 1, 1, 1) float32."""
    return torch.empty(count, 1, 1, 1).uniform_(low, high)


def some(count: int, share: float) -> Tensor:
    """(count, 1, 1, 1) float32, 1 for about `share` of the pictures, else 0."""
    return (torch.rand(count, 1, 1, 1) < share).float()


def viewpoint_grid(count: int, viewpoint: Viewpoint) -> Tensor:
    """(count, 3, 3): homographies that take a view's (x, y) in -1..1 to the picture's."""
    shift_x = uniform(count, -2 * viewpoint.shift_x, 2 * viewpoint.shift_x).flatten()
    shift_y = uniform(count, -2 * viewpoint.shift_y, 2 * viewpoint.shift_y).flatten()
    # Mostly enlarged: shrinking would show what lies outside of the picture.
    scale = torch.exp(uniform(count, -math.log(viewpoint.zoom), math.log(viewpoint.zoom) * 2 / 3).flatten())
    stretch = torch.exp(uniform(count, -0.1, 0.1).flatten())
    angle = uniform(count, -math.radians(viewpoint.roll_deg), math.radians(viewpoint.roll_deg)).flatten()
    tilt_x = uniform(count, -viewpoint.keystone / 2, viewpoint.keystone / 2).flatten()
    tilt_y = uniform(count, -viewpoint.keystone / 4, viewpoint.keystone / 4).flatten()
    one = torch.ones(count)
    rows = [
        scale * stretch * torch.cos(angle), -scale * torch.sin(angle), shift_x,
        scale * torch.sin(angle), scale / stretch * torch.cos(angle), shift_y,
        tilt_x, tilt_y, one,
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(count, 3, 3)


def warp(images: Tensor, homographies: Tensor, side: int) -> Tensor:
    """(N, C, S, S) seen through (N, 3, 3) -> (N, C, side, side); beyond the border it is mirrored."""
    ticks = (torch.arange(side, dtype=torch.float32) * 2 + 1) / side - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten(), torch.ones(side * side)])
    seen = homographies @ points
    where = (seen[:, :2] / seen[:, 2:].clamp(min=0.2)).mT.reshape(-1, side, side, 2)
    return functional.grid_sample(images, where, mode="bilinear", padding_mode="reflection", align_corners=False)


def blobs(count: int, cells: int, side: int) -> Tensor:
    """(count, 1, side, side) smooth noise of unit deviation, `cells` across."""
    return functional.interpolate(torch.randn(count, 1, cells, cells), (side, side), mode="bicubic")


def _height(side: int) -> Tensor:
    """(1, 1, side, 1): 0 at the top .. 1 at the bottom."""
    return torch.linspace(0, 1, side).view(1, 1, side, 1)


def light(images: Tensor) -> Tensor:
    """Exposure, tone, colour of the light, shadows and patches of light."""
    count, side = len(images), images.shape[-1]
    images = images.clamp(min=1e-4) ** torch.exp(uniform(count, -0.6, 0.6))
    shadow = torch.exp(uniform(count, 0.0, 0.45) * blobs(count, int(torch.randint(2, 7, ())), side))
    cast = 1 + 0.15 * torch.randn(count, 3, 1, 1) * some(count, 0.6)
    images = images * shadow * cast * torch.exp(uniform(count, -0.5, 0.4))
    grey = images.mean(dim=1, keepdim=True)
    saturation = uniform(count, -0.2, 1.4).clamp(min=0)
    images = grey + (images - grey) * saturation
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - middle) * uniform(count, 0.5, 1.4) + middle).clamp(0, 1)


def season(images: Tensor) -> Tensor:
    """Other surface colours (mixed channels, a bent tone curve), and snow on what lies low, in patches."""
    count, side = len(images), images.shape[-1]
    mixing = torch.eye(3) + 0.25 * torch.randn(count, 3, 3) * some(count, 0.5)[:, 0]
    images = torch.einsum("nij,njhw->nihw", mixing / mixing.sum(dim=2, keepdim=True).clamp(min=0.3), images)
    wave = uniform(count, 0.0, 0.25) * some(count, 0.4)
    images = images + wave * torch.sin(uniform(count, 3.0, 9.0) * images + uniform(count, 0.0, 6.3))
    bright = images.mean(dim=1, keepdim=True)
    low = (_height(side) - uniform(count, 0.3, 0.7)) * 8
    cover = torch.sigmoid(low + 1.5 * blobs(count, 6, side) + 3 * (bright - 0.5)) * some(count, 0.3)
    cover = cover * uniform(count, 0.5, 0.95)
    white = uniform(count, 0.7, 1.0) * (0.8 + 0.2 * bright)
    return (images * (1 - cover) + white * cover).clamp(0, 1)


def resurface(images: Tensor, share: float = 0.2) -> Tensor:
    """Other surfaces, same shapes: a random 3 x 3 filter over the colours (RandConv, arXiv 2007.13003), blended in."""
    count, side = len(images), images.shape[-1]
    filters = torch.randn(count * 3, 3, 3, 3) / math.sqrt(27)
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    other = functional.conv2d(padded.reshape(1, count * 3, side + 2, side + 2), filters, groups=count).view_as(images)
    spread, middle = torch.std_mean(other, dim=(2, 3), keepdim=True)
    own_spread, own_middle = torch.std_mean(images, dim=(2, 3), keepdim=True)
    other = (other - middle) / spread.clamp(min=1e-3) * own_spread + own_middle
    blend = uniform(count, 0.2, 0.8) * some(count, share)
    return (images * (1 - blend) + other * blend).clamp(0, 1)


def exchange_spectrum(images: Tensor, share: float = 0.2) -> Tensor:
    """Another picture's amplitudes, the own phases: style changes, edges stay (arXiv 2105.11120)."""
    count = len(images)
    spectrum = torch.fft.rfft2(images)
    amplitude = spectrum.abs()
    blend = uniform(count, 0.2, 0.9) * some(count, share)
    mixed = amplitude * (1 - blend) + amplitude.roll(1, 0) * blend
    return torch.fft.irfft2(spectrum * (mixed / amplitude.clamp(min=1e-6)), s=images.shape[-2:]).clamp(0, 1)


def air(images: Tensor) -> Tensor:
    """Fog, thicker towards the horizon."""
    count, side = len(images), images.shape[-1]
    far = torch.exp(-(((_height(side) - uniform(count, 0.3, 0.6)) / 0.3) ** 2))
    fog = (uniform(count, 0.2, 0.7) * (0.5 + 0.5 * far)) * some(count, 0.2)
    return images * (1 - fog) + uniform(count, 0.5, 0.9) * fog


def _glow(x: Tensor, y: Tensor, reach: Tensor, side: int) -> Tensor:
    """(N, 1, side, side): 1 at (x, y), falling like a Gaussian."""
    ticks = torch.linspace(0, 1, side)
    across = torch.exp(-(((ticks.view(1, 1, 1, -1) - x) / reach) ** 2))
    return across * torch.exp(-(((ticks.view(1, 1, -1, 1) - y) / reach) ** 2))


def night(images: Tensor, share: float = 0.3) -> Tensor:
    """Dark with a few lamps: what lies near one is lit, the rest sinks."""
    count, side = len(images), images.shape[-1]
    lit, glare = torch.zeros(count, 1, side, side), torch.zeros(count, 1, side, side)
    for _ in range(2):
        x, y, reach = uniform(count, 0, 1), uniform(count, 0, 0.6), uniform(count, 0.1, 0.5)
        lit = lit + uniform(count, 0, 1.5) * _glow(x, y, reach, side)
        glare = glare + some(count, 0.5) * _glow(x, y, 0.08 * reach, side)
    lamp = 1 + torch.tensor([0.25, 0.0, -0.35]).view(1, 3, 1, 1) * uniform(count, 0, 1)
    dark = images ** uniform(count, 1.0, 1.8) * (uniform(count, 0.08, 0.4) + lit * uniform(count, 0.1, 0.8)) + glare
    chosen = some(count, share)
    return (images * (1 - chosen) + dark * lamp * chosen).clamp(0, 1)


def occlude(images: Tensor, share: float = 0.35) -> Tensor:
    """Something stands in the way: a rectangle of another picture of the batch."""
    count, side = len(images), images.shape[-1]
    ticks = torch.linspace(0, 1, side)
    x, y = uniform(count, 0, 1), uniform(count, 0.2, 1)
    width, height = uniform(count, 0.05, 0.2), uniform(count, 0.05, 0.25)
    inside = ((ticks.view(1, 1, 1, -1) - x).abs() < width) & ((ticks.view(1, 1, -1, 1) - y).abs() < height)
    mask = inside.float() * some(count, share)
    return images * (1 - mask) + images.roll(1, 0) * mask


def camera(images: Tensor) -> Tensor:
    """Blur of motion or focus, few pixels, noise."""
    count, side = len(images), images.shape[-1]
    small = functional.avg_pool2d(images, 2)
    soft = functional.interpolate(small, (side, side), mode="bilinear")
    wide = functional.avg_pool2d(images, (1, 5), stride=1, padding=(0, 2))
    blurred, moved = some(count, 0.25), some(count, 0.15)
    images = images * (1 - blurred) + soft * blurred
    images = images * (1 - moved) + wide * moved
    noise = uniform(count, 0.0, 0.05) * some(count, 0.6)
    return (images + noise * torch.randn_like(images)).clamp(0, 1)


def other_conditions(images: Tensor) -> Tensor:
    """The whole photometric chain; where things stand in the picture does not change."""
    return camera(night(air(light(season(resurface(exchange_spectrum(occlude(images))))))))


def falling(images: Tensor, share: float = 0.2) -> Tensor:
    """Rain as streaks, or snow as flakes, in front of everything."""
    count, side = len(images), images.shape[-1]
    drops = (torch.rand(count, 1, side, side) < uniform(count, 0.002, 0.02)).float()
    length = max(3, side // 16) | 1
    streaks = functional.avg_pool2d(drops, (length, 1), stride=1, padding=(length // 2, 0)) * length
    flakes = functional.avg_pool2d(drops, 3, stride=1, padding=1) * 9
    kind = some(count, 0.5)
    seen = (streaks * kind * 0.5 + flakes * (1 - kind)).clamp(0, 1) * uniform(count, 0.2, 0.8) * some(count, share)
    return images * (1 - seen) + seen * uniform(count, 0.7, 1.0)


def lens(images: Tensor, share: float = 0.25) -> Tensor:
    """A wide lens' barrel, as a fisheye's middle shows it, or the opposite."""
    count, side = len(images), images.shape[-1]
    ticks = (torch.arange(side, dtype=torch.float32) * 2 + 1) / side - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    bend = (uniform(count, -0.15, 0.35) * some(count, share))[:, 0]
    factor = (1 + bend * (x * x + y * y)) / (1 + bend.clamp(min=0))  # a barrel shows no less than the picture's edge
    where = torch.stack([x * factor, y * factor], dim=-1)
    return functional.grid_sample(images, where, mode="bilinear", padding_mode="reflection", align_corners=False)


def sensor(images: Tensor) -> Tensor:
    """Other cameras: grey ones, bands of a rolling exposure under lamps, corners that are darker."""
    count, side = len(images), images.shape[-1]
    grey = some(count, 0.2)
    images = images * (1 - grey) + images.mean(dim=1, keepdim=True) * grey
    bands = torch.sin(_height(side) * uniform(count, 6.0, 40.0) + uniform(count, 0.0, 6.3))
    images = images * (1 + bands * uniform(count, 0.05, 0.25) * some(count, 0.15))
    across = torch.linspace(-1, 1, side)
    radius = across.view(1, 1, 1, -1) ** 2 + across.view(1, 1, -1, 1) ** 2
    return (images * (1 - radius * uniform(count, 0.0, 0.3) * some(count, 0.3))).clamp(0, 1)


def street_conditions(images: Tensor) -> Tensor:
    """As `other_conditions`, and what falls from the sky, other lenses and other cameras."""
    seen = air(light(season(resurface(exchange_spectrum(occlude(lens(images)))))))
    return camera(sensor(falling(night(seen))))
