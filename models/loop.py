"""The training loop both stages share: AdamW, warm-up and cosine, clipped gradients, resume after a kill."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns.

    Attributes:
        steps: of one batch each.
        rate: highest learning rate; rises over `warm_up` steps, then falls along a cosine to a hundredth.
        weight_decay: of matrices; biases, norms and embeddings have none.
        minutes: a stage ends here at the latest (the cosine follows whatever is nearer its end); 0: no limit.
    """

    steps: int
    rate: float
    warm_up: int = 50
    weight_decay: float = 0.05
    minutes: float = 0.0

    def rate_at(self, step: int, progress: float) -> float:
        """Learning rate at a step, `progress` being the share of the stage that is done."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up))
        return self.rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def optimiser_of(parts: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in parts.named_parameters():
        plain = parameter.ndim < 2 or "pos_embed" in name or "token" in name
        (rest if plain else matrices).append(parameter)
    groups = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.98))


def train(
    parts: nn.Module,
    losses_of: Callable[[], dict[str, Tensor]],
    schedule: Schedule,
    checkpoint: Path,
    log_every: int = 20,
    save_every_s: float = 120.0,
) -> None:
    """Trains every parameter of `parts` in place; `losses_of` draws a batch and gives its losses, already weighted.

    A checkpoint that is already there is continued. Losses go to `checkpoint` with the suffix .jsonl.
    """
    optimiser = optimiser_of(parts, schedule)
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        parts.load_state_dict(state["parts"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
        log.info("continues %s at step %d", checkpoint, step)
    torch.manual_seed(step + 1)
    parts.train()
    history = checkpoint.with_suffix(".jsonl")
    sums: dict[str, float] = {}
    summed = 0
    begun = saved = time.monotonic()
    while step < schedule.steps:
        elapsed = spent + time.monotonic() - begun
        progress = max(step / schedule.steps, elapsed / (60 * schedule.minutes) if schedule.minutes else 0.0)
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step, progress)
        losses = losses_of()
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimiser.step()
        step, summed = step + 1, summed + 1
        for name, value in {**losses, "gradient": norm}.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if step % log_every == 0 or step == schedule.steps:
            means = {name: round(total / summed, 4) for name, total in sums.items()}
            sums, summed = {}, 0
            line = {"step": step, "seconds": round(spent + time.monotonic() - begun, 1), **means}
            with history.open("a") as file:
                file.write(json.dumps(line) + "\n")
            log.info("%s", line)
        if time.monotonic() - saved > save_every_s:
            saved = time.monotonic()
            save(parts, optimiser, step, spent + saved - begun, checkpoint)
    save(parts, optimiser, step, spent + time.monotonic() - begun, checkpoint)


def save(parts: nn.Module, optimiser: torch.optim.Optimizer, step: int, spent: float, path: Path) -> None:
    partial = path.with_suffix(".partial")
    state = {"parts": parts.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "spent": spent}
    torch.save(state, partial)
    partial.rename(path)  # a kill never leaves half a checkpoint
