"""The inference form cut into parts: what each part computes, run by itself on the tokens of a real pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from d2vpr_ros.model import FusedD2VPR
from d2vpr_ros.model.fuse import FusedBlock


@dataclass(frozen=True)
class Part:
    """One row of the table.

    Attributes:
        name: what it computes, in all blocks together.
        run: computes it once.
        flop: multiplications and additions in its matrix products and convolutions.
    """

    name: str
    run: Callable[[], object]
    flop: int


def parts_of(model: FusedD2VPR, images: Tensor) -> list[Part]:
    """The parts of one forward pass; together they are the whole of it but for a few additions of tokens."""
    backbone, aggregation = model.backbone, model.aggregation
    blocks = [block for block in backbone.blocks if isinstance(block, FusedBlock)]
    embedded = backbone.embed(images)
    normed = blocks[0].norm1(embedded)
    projected = blocks[0].qkv(normed)
    attended = blocks[0].attend(projected)
    tapped = torch.cat([embedded] * len(backbone.taps), dim=-1)
    tokens = backbone(images)
    cls, patches = tokens[:, :1], tokens[:, 1:]
    points = aggregation.deformed_points(cls, patches)
    pooled = aggregation.pool(patches, points)

    def in_each(part: Callable[[FusedBlock], object]) -> Callable[[], None]:
        """Of all blocks, no result kept: fresh memory for each would cost more time than its numbers."""

        def run() -> None:
            for block in blocks:
                part(block)

        return run

    runs: dict[str, Callable[[], object]] = {
        "patch embedding": lambda: backbone.embed(images),
        "qkv and projection": in_each(lambda block: (block.qkv(normed), block.proj(attended))),
        "attention": in_each(lambda block: block.attend(projected)),
        "MLP": in_each(lambda block: block.mlp(normed)),
        "adapters": in_each(lambda block: block.adapter(normed)),
        "norms and residuals": in_each(lambda block: _between(block, embedded)),
        "recovery module": lambda: backbone.up_norm(backbone.lin(tapped)),
        "offsets": lambda: aggregation.deformed_points(cls, patches),
        "sampling and pooling": lambda: aggregation.pool(patches, points),
        "fusion": lambda: aggregation.descriptor(cls, pooled, points),
    }
    return [Part(name, run, flop(run)) for name, run in runs.items()]


def flop(run: Callable[[], object]) -> int:
    """Counted by torch; the default CPU attention is not counted, so the plain one is forced."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _between(block: FusedBlock, tokens: Tensor) -> Tensor:
    """What a block does between its matrix products: two norms, three additions."""
    return block.norm1(tokens) + block.norm2(tokens) + tokens + tokens
