"""What pulls equal places together and other ones apart, over the descriptors of all processes."""

from __future__ import annotations

from pytorch_lightning import LightningModule
from pytorch_metric_learning.losses import MultiSimilarityLoss, NTXentLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import Tensor, nn

from d2vpr_ros.errors import UserError


class PlaceLoss(nn.Module):
    """Equal places near, other ones far.

    Args:
        kind: `multi_similarity` with its miner as published (alpha 1, beta 50, base 0, epsilon 0.1), which looks at
            the hardest pairs, or `contrastive` (NT-Xent at temperature 0.1), which looks at all of them and gets a
            network that starts from nothing going.
    """

    def __init__(self, kind: str = "multi_similarity") -> None:
        super().__init__()
        if kind not in ("multi_similarity", "contrastive"):
            raise UserError(f"place loss {kind!r}: expected multi_similarity or contrastive")
        self.miner = MultiSimilarityMiner(epsilon=0.1) if kind == "multi_similarity" else None
        self.loss = MultiSimilarityLoss(alpha=1.0, beta=50.0, base=0.0) if self.miner else NTXentLoss(temperature=0.1)

    def forward(self, descriptors: Tensor, places: Tensor) -> Tensor:
        """(N, D) unit descriptors, (N,) names of places -> scalar."""
        pairs = self.miner(descriptors, places) if self.miner else None
        return self.loss(descriptors, places, pairs)


def gathered(module: LightningModule, descriptors: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors and places of all processes, the descriptors with gradients.

    Every process then computes the same loss over the whole batch. Its gradient with respect to a process's own
    descriptors arrives summed over the processes, and DDP averages over as many: together the gradient of one process
    that has the whole batch.
    """
    if module.trainer.world_size == 1:
        return descriptors, places
    all_descriptors, all_places = module.all_gather(descriptors, sync_grads=True), module.all_gather(places)
    assert isinstance(all_descriptors, Tensor) and isinstance(all_places, Tensor)
    return all_descriptors.flatten(0, 1), all_places.flatten()
