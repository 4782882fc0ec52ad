"""From a picture of any size to what the network takes: one function for training, map building and live."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Preprocessor:
    """Squash the whole picture (no crop) to `size` x `size` and normalise it, as the released weights were trained.

    The resampling is antialiased bilinear on 8-bit values, which is what PIL does and what costs least.

    Attributes:
        size: side of the network's input in pixels, a multiple of its cell (`D2VPRConfig.cell`).
        mean, std: of ImageNet, per channel, for values in 0..1.
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def hash(self) -> str:
        """Tells two preprocessings apart; stored in every map."""
        recipe = {"resample": "bilinear antialias uint8", "fit": "squash", **asdict(self)}
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]

    def resize(self, image: npt.NDArray[np.uint8], device: str = "cpu") -> Tensor:
        """(H, W, 3) uint8 RGB -> (3, size, size) uint8 on the device, which does the work.

        A device that cannot resample 8-bit values does it in float32 and rounds where the processor does.

        Raises:
            UserError: the picture is not such an array, or empty.
        """
        import torch

        check_image(image)
        return resampled(torch.from_numpy(np.ascontiguousarray(image)).to(device), self.size)

    def squash(self, image: npt.NDArray[np.uint8], device: str = "cpu") -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB -> (size, size, 3) uint8 on the host: `resize` as what a network is given."""
        return self.resize(image, device).permute(1, 2, 0).cpu().numpy()

    def normalise(self, resized: Tensor) -> Tensor:
        """(N, 3, size, size) uint8 -> float32, zero mean and unit variance over ImageNet."""
        import torch

        mean = torch.tensor(self.mean, device=resized.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=resized.device).view(3, 1, 1)
        return (resized.float() / 255 - mean) / std

    def __call__(self, images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        """N pictures of any sizes -> (N, 3, size, size) float32."""
        import torch

        return self.normalise(torch.stack([self.resize(image) for image in images]))


def resampled(image: Tensor, size: int) -> Tensor:
    """(H, W, 3) uint8 or float on any device -> (3, size, size) uint8: by antialiased bilinear interpolation."""
    import torch
    from torch.nn import functional

    channels_first = image.permute(2, 0, 1)[None]
    in_bytes = image.dtype == torch.uint8 and image.device.type == "cpu"  # torch's kernels elsewhere take floats only
    resample = partial(functional.interpolate, mode="bilinear", antialias=True)
    if in_bytes:
        return resample(channels_first, (size, size))[0]
    across = resample(channels_first.float(), (len(image), size)).round()  # as bytes: first across, to whole levels
    return resample(across, (size, size))[0].round().clamp(0, 255).to(torch.uint8)


def check_image(image: npt.NDArray[np.uint8]) -> None:
    """
    Raises:
        UserError: it is not (H, W, 3) uint8, or empty.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UserError(
            f"an image to describe is {image.dtype} of shape {image.shape}; "
            "expected uint8 RGB of shape (height, width, 3): convert it first, e.g. with images.decode_image"
        )
