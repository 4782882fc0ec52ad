"""The pictures that surfaces are made of, drawn by numpy: the same for every town, a town only chooses among them.

Two texture arrays. `surfaces` are (SURFACES, 256, 256, 2) uint8: brightness (128 is the colour as it is) and, by kind
of surface, opacity (leaves, branches), ink (text) or how much large stains show.
`facade_tiles` are (TILES, 128, 128, 3) uint8, one tile a window bay of a storey: brightness, share of trim, share of
glass; what is neither trim nor glass is wall. Row 0 is the lower edge, as OpenGL has it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from d2vpr_ros.geometry import Array

SIZE = 256
TILE = 128
PLASTER, BRICK, STONE, PANEL, ASPHALT, PAVING, GRASS, LEAVES, ROOF, PLANKS, BRANCHES, PAINT, TEXT = range(13)
TEXT_LAYERS = 4
TEXT_ROWS = 4  # lines of lettering in a text layer
SURFACES = TEXT + TEXT_LAYERS
DOORS = 16  # the first door tile, after the windows
SHOPS = 24
TILES = 32
# Metres that one repetition of a surface covers.
SURFACE_METRES = (4.0, 1.9, 3.1, 3.0, 4.0, 2.4, 3.0, 1.0, 2.2, 1.6, 1.0, 2.0) + (1.0,) * TEXT_LAYERS

Bytes = npt.NDArray[np.uint8]


def _cloudy(rng: np.random.Generator, roughness: float = 1.0) -> Array:
    """(SIZE, SIZE) tileable noise of all scales, zero mean, unit deviation; amplitude ~ 1 / frequency**roughness."""
    f = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :])
    f[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) / f**roughness
    noise = np.fft.irfft2(spectrum, s=(SIZE, SIZE))
    return noise / noise.std()


def _blocks(rng: np.random.Generator, rows: int, columns: int, joint: int, shift: bool, spread: float) -> Array:
    """Masonry: rows x columns stones a repetition, dark joints, each stone its own brightness (around 0)."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    row = y * rows // SIZE
    x = (x + (row % 2) * (SIZE // columns // 2) * int(shift)) % SIZE
    column = x * columns // SIZE
    stones = rng.normal(0, spread, (rows, columns))[row, column]
    in_joint = (y % (SIZE / rows) < joint) | (x % (SIZE / columns) < joint)
    return np.where(in_joint, -0.28, stones)


def _leaves(rng: np.random.Generator) -> tuple[Array, Array]:
    shade, alpha = np.zeros((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.float32)
    for _ in range(900):
        radius = SIZE * 0.46 * np.sqrt(rng.random())
        angle = rng.uniform(0, 2 * np.pi)
        centre = (int(SIZE / 2 + radius * np.cos(angle)), int(SIZE / 2 + radius * np.sin(angle)))
        axes = (int(rng.integers(4, 11)), int(rng.integers(3, 6)))
        turn = float(rng.uniform(0, 360))
        cv2.ellipse(shade, centre, axes, turn, 0, 360, float(rng.normal(0.0, 0.22)), -1)
        cv2.ellipse(alpha, centre, axes, turn, 0, 360, 1.0, -1)
    return shade.astype(np.float64), alpha.astype(np.float64)


def _branches(rng: np.random.Generator) -> tuple[Array, Array]:
    alpha = np.zeros((SIZE, SIZE), np.float32)

    def grow(x: float, y: float, angle: float, reach: float, width: float) -> None:
        x2, y2 = x + reach * np.cos(angle), y + reach * np.sin(angle)
        cv2.line(alpha, (int(x), int(y)), (int(x2), int(y2)), 1.0, max(1, round(width)), cv2.LINE_AA)
        if reach > 7:
            for _ in range(3 if reach > 16 else 2):
                grow(x2, y2, angle + rng.normal(0, 0.5), reach * rng.uniform(0.6, 0.8), width * 0.66)

    for angle in (0.95, 1.35, 1.75, 2.2):
        grow(SIZE / 2, 2, angle, 54, 7)
    alpha[-3:] = alpha[:, :3] = alpha[:, -3:] = 0.0
    return 0.1 * _cloudy(rng), alpha.astype(np.float64)


def _text(rng: np.random.Generator) -> Array:
    """Lettering, TEXT_ROWS lines; 1 where there is ink."""
    page = np.zeros((SIZE, SIZE), np.float32)
    height = SIZE // TEXT_ROWS
    for row in range(TEXT_ROWS):
        word = "".join(chr(rng.integers(65, 91)) for _ in range(rng.integers(3, 9)))
        font = int(rng.choice([cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX]))
        (w, h), _ = cv2.getTextSize(word, font, 1.0, 3)
        scale = min((SIZE - 24) / w, (height - 22) / h)
        x = int((SIZE - w * scale) / 2)
        cv2.putText(page, word, (x, row * height + height - 14), font, scale, 1.0, 4, cv2.LINE_AA)
    return page[::-1].astype(np.float64)


def surfaces() -> Bytes:
    """(SURFACES, 256, 256, 2) uint8, see the module."""
    rng = np.random.Generator(np.random.PCG64(20))
    solid = np.ones((SIZE, SIZE))
    rough = _cloudy(rng, 0.8)
    white = rng.standard_normal((SIZE, SIZE))
    speckle = np.maximum(gaussian_filter(white, 1.0, mode="wrap") * 4 - 1.2, 0)
    cracks = np.abs(_cloudy(rng, 1.3)) < 0.02
    y = np.mgrid[0:SIZE, 0:SIZE][0] / SIZE
    leaf_shade, leaf_alpha = _leaves(rng)
    branch_shade, branch_alpha = _branches(rng)
    shades = {
        PLASTER: 0.07 * _cloudy(rng, 1.4) + 0.05 * rough,
        BRICK: _blocks(rng, 24, 8, 2, True, 0.10) + 0.05 * rough + 0.03,
        STONE: _blocks(rng, 6, 4, 3, True, 0.07) + 0.07 * rough,
        PANEL: _blocks(rng, 2, 2, 3, False, 0.04) + 0.05 * _cloudy(rng, 1.6),
        ASPHALT: 0.07 * _cloudy(rng, 1.0) + 0.10 * speckle - 0.25 * cracks,
        PAVING: _blocks(rng, 5, 5, 3, True, 0.06) + 0.05 * rough,
        GRASS: 0.14 * _cloudy(rng, 0.6) + 0.05 * white,
        LEAVES: leaf_shade,
        ROOF: 0.25 * (y * 14 % 1.0) - 0.14 + _blocks(rng, 14, 10, 2, True, 0.06) * 0.7 + 0.04 * rough,
        PLANKS: _blocks(rng, 1, 8, 3, False, 0.08) + 0.04 * _cloudy(rng, 0.7),
        BRANCHES: branch_shade,
        PAINT: 0.015 * rough,
    }
    alphas = {LEAVES: leaf_alpha, BRANCHES: branch_alpha, PAINT: 0.12 * solid}
    layers = [np.stack([shades[k] + 0.5, alphas.get(k, solid)], axis=-1) for k in range(TEXT)]
    layers += [np.stack([0.5 * solid, _text(rng)], axis=-1) for _ in range(TEXT_LAYERS)]
    return (np.clip(np.stack(layers), 0, 1) * 255).astype(np.uint8)


WALL, TRIM, GLASS = (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)


def _fill(tile: Array, box: tuple[float, float, float, float], shade: float, what: tuple[float, float]) -> None:
    """Paint left, bottom, right, top (0..1) of a tile."""
    size = len(tile)
    left, bottom, right, top = (round(size * v) for v in box)
    tile[max(0, bottom) : top, max(0, left) : right] = (shade, *what)


def _window(rng: np.random.Generator, tile: Array) -> None:
    width, low, high = (float(rng.uniform(*between)) for between in ((0.38, 0.72), (0.16, 0.34), (0.76, 0.92)))
    left, right = 0.5 - width / 2, 0.5 + width / 2
    frame = rng.uniform(0.02, 0.045)
    if rng.random() < 0.5:  # a surround
        edge = rng.uniform(0.03, 0.07)
        _fill(tile, (left - edge, low - edge / 2, right + edge, high + edge), 0.5, TRIM)
    if rng.random() < 0.35:  # shutters
        for a in (left - width / 2.2, right):
            b = a + width / 2.2
            _fill(tile, (a, low, b, high), 0.4, TRIM)
            for s in np.arange(low, high, 0.045).tolist():
                _fill(tile, (a + 0.015, s, b - 0.015, s + 0.02), 0.28, TRIM)
    _fill(tile, (left, low, right, high), 0.55, TRIM)
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    w, h = (width - frame) / columns, (high - low - frame) / rows
    for i in range(columns):
        for j in range(rows):
            x, y = left + frame + i * w, low + frame + j * h
            _fill(tile, (x, y, x + w - frame, y + h - frame), 0.5, GLASS)
    _fill(tile, (left, high - 0.05, right, high - 0.02), 0.22, GLASS)  # the lintel's shadow
    sill = rng.uniform(0.02, 0.06)
    _fill(tile, (left - 0.05, low - sill, right + 0.05, low), 0.62, TRIM)
    _fill(tile, (left - 0.05, low - sill - 0.03, right + 0.05, low - sill), 0.3, WALL)
    if rng.random() < 0.4:  # a band between storeys
        _fill(tile, (0, 0, 1, rng.uniform(0.03, 0.08)), 0.58, TRIM if rng.random() < 0.5 else WALL)


def _door(rng: np.random.Generator, tile: Array) -> None:
    width, high = rng.uniform(0.32, 0.5), rng.uniform(0.68, 0.84)
    left, right = 0.5 - width / 2, 0.5 + width / 2
    _fill(tile, (left - 0.06, 0, right + 0.06, high + 0.07), 0.6, WALL)
    _fill(tile, (left, 0, right, high), 0.32, TRIM)
    for i in range(2):
        for j in range(3):
            x, y = left + 0.03 + i * width / 2, 0.05 + j * high / 3.2
            _fill(tile, (x, y, x + width / 2 - 0.06, y + high / 4), 0.42, GLASS if j == 2 else TRIM)
    _fill(tile, (left - 0.1, 0, right + 0.1, 0.05), 0.55, WALL)
    _fill(tile, (left - 0.12, high + 0.07, right + 0.12, high + 0.12), rng.uniform(0.3, 0.7), TRIM)


def _shop(rng: np.random.Generator, tile: Array) -> None:
    low, high = rng.uniform(0.06, 0.22), rng.uniform(0.66, 0.78)
    _fill(tile, (0, 0, 1, high + 0.05), rng.uniform(0.3, 0.6), TRIM)
    _fill(tile, (0.05, low, 0.95, high), 0.5, GLASS)
    for _ in range(rng.integers(5, 14)):  # goods, posters and people behind the glass
        x, y = rng.uniform(0.05, 0.8), rng.uniform(low, high - 0.15)
        _fill(tile, (x, y, x + rng.uniform(0.05, 0.2), y + rng.uniform(0.05, 0.2)), rng.uniform(0.1, 0.95), (0.4, 0.5))
    for x in np.linspace(0.05, 0.95, int(rng.integers(2, 5))):
        _fill(tile, (x - 0.02, low, x + 0.02, high), 0.4, TRIM)
    _fill(tile, (0, high, 1, high + 0.03), 0.22, TRIM)


def facade_tiles() -> Bytes:
    """(TILES, 128, 128, 3) uint8, see the module."""
    rng = np.random.Generator(np.random.PCG64(21))
    tiles = np.zeros((TILES, 2 * TILE, 2 * TILE, 3))
    tiles[..., 0] = 0.5
    for k, tile in enumerate(tiles):
        draw = _window if k < DOORS else _door if k < SHOPS else _shop
        draw(rng, tile)
    small = tiles.reshape(TILES, TILE, 2, TILE, 2, 3).mean(axis=(2, 4))
    return (np.clip(small, 0, 1) * 255).astype(np.uint8)
