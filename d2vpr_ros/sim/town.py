"""A small procedural town: everything in it follows from one seed (numpy PCG64).

A town is a bent, irregular grid of blocks. Most blocks are rings of houses, some are parks or squares; some streets
are rows of one house repeated, so that places exist which look alike. All coordinates are metres in the frame `map`
(x east, y north, z up, ground at z = 0); colours are linear-light reflectances in 0..1.
"""

from __future__ import annotations

import numpy as np

from d2vpr_ros.errors import UserError
from d2vpr_ros.sim.blocks import BlockBuilder
from d2vpr_ros.sim.layout import BLOCKS, Street, Town

EVALUATION_SEEDS = range(0, 100)
CALIBRATION_SEEDS = range(500, 600)
FIRST_TRAINING_SEED = 1000


def seed_purpose(seed: int) -> str:
    """What a town may be used for: ``evaluation`` (demo included), ``calibration`` or ``training``.

    Raises:
        UserError: the seed belongs to no purpose.
    """
    if seed in EVALUATION_SEEDS:
        return "evaluation"
    if seed in CALIBRATION_SEEDS:
        return "calibration"
    if seed >= FIRST_TRAINING_SEED:
        return "training"
    raise UserError(
        f"town seed {seed}: expected 0 to 99 (demo, evaluation), 500 to 599 (calibration) or 1000 and up (training)"
    )


def build_town(seed: int) -> Town:
    """The town of a seed.

    Raises:
        UserError: the seed belongs to no purpose (`seed_purpose`).
    """
    seed_purpose(seed)
    rng = np.random.Generator(np.random.PCG64(seed))
    steps = rng.uniform(48, 82, (2, BLOCKS))
    xs, ys = (np.concatenate([[0.0], np.cumsum(step)]) - step.sum() / 2 for step in steps)
    nodes = np.array([[x, y] for y in ys for x in xs]) + rng.uniform(-7, 7, ((BLOCKS + 1) ** 2, 2))
    lanes = rng.choice([3.0, 3.6, 4.6, 5.8], (2, BLOCKS + 1), p=[0.2, 0.25, 0.35, 0.2])
    builder = BlockBuilder(rng, nodes)
    for row in range(BLOCKS):
        for column in range(BLOCKS):
            corners = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
            index = [r * (BLOCKS + 1) + c for c, r in corners]
            widths = [lanes[0, row], lanes[1, column + 1], lanes[0, row + 1], lanes[1, column]]
            builder.add(index, np.array(widths), is_inner=0 < row < BLOCKS - 1 and 0 < column < BLOCKS - 1)
    streets = [
        Street(r * (BLOCKS + 1) + c, r * (BLOCKS + 1) + c + 1, float(lanes[0, r]))
        for r in range(1, BLOCKS)
        for c in range(1, BLOCKS - 1)
    ] + [
        Street(r * (BLOCKS + 1) + c, (r + 1) * (BLOCKS + 1) + c, float(lanes[1, c]))
        for c in range(1, BLOCKS)
        for r in range(1, BLOCKS - 1)
    ]
    return Town(
        seed,
        nodes=tuple((float(x), float(y)) for x, y in nodes),
        streets=tuple(streets),
        blocks=tuple(builder.blocks),
        houses=tuple(builder.houses),
        props=tuple(builder.props),
        parking=tuple(builder.parking),
        standing=tuple(builder.standing),
    )
