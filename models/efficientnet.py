"""EfficientNet-Lite up to its last map, to be a peer: ImageNet's features with nothing learned for places.

Names are those of the published files (github.com/ml-illustrated/EfficientNet-Lite-PyTorch, converted from TensorFlow):
no squeeze-and-excitation, ReLU6, first and last stage of one block at every size, maps padded on the far side first.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

STRIDES = {16: 1, 24: 2, 40: 2, 48: 2, 80: 2, 88: 2, 112: 1, 120: 1, 192: 2, 208: 2, 320: 1, 352: 1}
"""Of a stage's first block, by the channels that it puts out (Lite0 and Lite2)."""


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does: the output has ceil(size / stride), one pixel more on the far side."""

    def forward(self, maps: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = list[int]()
        for size in (maps.shape[-1], maps.shape[-2]):
            missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(maps, pads))


class InvertedBottleneck(nn.Module):
    """Widen, convolve each channel, narrow; added to what came in where sizes allow.

    Args:
        state: the file's tensors of this block, whose shapes say all but the stride.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        depthwise, project = state["_depthwise_conv.weight"], state["_project_conv.weight"]
        wide, outputs = len(depthwise), len(project)
        self.widens = "_expand_conv.weight" in state
        inputs = state["_expand_conv.weight"].shape[1] if self.widens else wide
        stride = STRIDES[outputs] if inputs != outputs else 1
        if self.widens:
            self._expand_conv = SameConv(inputs, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = SameConv(wide, wide, depthwise.shape[-1], stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = SameConv(wide, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.adds = inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        wide = functional.relu6(self._bn0(self._expand_conv(maps))) if self.widens else maps
        wide = functional.relu6(self._bn1(self._depthwise_conv(wide)))
        narrow = self._bn2(self._project_conv(wide))
        return maps + narrow if self.adds else narrow


class EfficientNetLite(nn.Module):
    """(N, 3, S, S) in -1..1 -> (N, 1280, S / 32, S / 32), nowhere negative; in eval mode.

    Args:
        state: the tensors of a published file; its classifier is left out.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        own = {name: tensor for name, tensor in state.items() if not name.startswith("_fc.")}
        self._conv_stem = SameConv(3, len(own["_conv_stem.weight"]), 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(len(own["_conv_stem.weight"]), eps=1e-3)
        count = 1 + max(int(name.split(".")[1]) for name in own if name.startswith("_blocks."))
        self._blocks = nn.Sequential(*(InvertedBottleneck(_below(own, f"_blocks.{row}.")) for row in range(count)))
        outputs, inputs = own["_conv_head.weight"].shape[:2]
        self._conv_head = SameConv(inputs, outputs, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.load_state_dict(own)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        maps = self._blocks(functional.relu6(self._bn0(self._conv_stem(images))))
        return functional.relu6(self._bn1(self._conv_head(maps)))


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
