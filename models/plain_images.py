"""Images without places, for distillation: the teacher says what each should give, no label is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.fit_pca import ENDINGS, open_source
from models.places import Places, fingerprint_of


def read_plain_images(path: Path) -> Places:
    """A folder of images (with everything below it), a map, or an npy file of pictures: each image its own place.

    Raises:
        UserError: there are no images.
    """
    source = open_source(path)
    parts = [f"{path.stat().st_size}"]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS)
        parts = [f"{file.relative_to(path)} {file.stat().st_size}" for file in files]
    rows = [np.array([row], np.int64) for row in range(source.count)]
    return Places(rows, ["images"] * source.count, source.read, fingerprint_of(parts), f"{source.count} images")
