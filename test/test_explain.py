"""`d2vpr explain`: attention and sample points are the network's own, and the page stands alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from d2vpr_ros.cli.main import main
from d2vpr_ros.describe.attention import class_attention, load_network, look
from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.evaluation.explain import with_attention, with_points
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.model.regions import POINTS, REGIONS


def street(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((30, 30, 1), np.uint8))


def test_the_class_token_attends_where_the_network_s_own_attention_does() -> None:
    torch.manual_seed(0)
    projected = torch.randn(2, 10, 3 * 12)
    query, key, _ = projected.view(2, 10, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
    one_hot = torch.eye(10).expand(2, 3, 10, 10)  # values that show which token each weight went to
    weights = functional.scaled_dot_product_attention(query, key, one_hot)
    assert torch.allclose(class_attention(projected, 3), weights[:, :, 0, 1:].mean(dim=1), atol=1e-6)


def test_the_bundled_weights_sample_every_region_near_its_place() -> None:
    seen = look(load_network(weights_path("nano")), street())
    assert seen.picture.shape == (224, 224, 3) and 0 < seen.attention.sum() <= 1
    for points, region, count in zip(seen.regions(), REGIONS, POINTS, strict=True):
        x1, y1, x2, y2 = region.box
        assert len(points) == count and points.min() >= 0 and points.max() <= 1
        assert np.abs(points.mean(axis=0) - [(x1 + x2) / 2, (y1 + y2) / 2]).max() < 0.25
    assert with_attention(seen).shape == with_points(seen, slice(4)).shape == (448, 448, 3)
    assert (with_points(seen, slice(4)) != with_points(seen, slice(4, None))).any()


def test_the_page_shows_each_picture_and_loads_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [tmp_path / "a <b>.jpg", tmp_path / "c.jpg"]
    for number, path in enumerate(pictures):
        path.write_bytes(encode_jpeg(street(number)))
    assert main(["explain", "nano", *map(str, pictures), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert (
        "a &lt;b&gt;.jpg" in page
        and page.count("data:image/jpeg") == 6
        and "http:" not in page
        and "https:" not in page
    )
    assert "2 pictures as nano sees them" in capsys.readouterr().out
    assert main(["explain", "nano", str(pictures[1]), "-o", str(tmp_path / "page.html")]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_what_is_no_picture_is_told_by_its_name(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.jpg"
    if content is not None:
        path.write_bytes(content)
    assert main(["explain", "nano", str(path), "-o", str(tmp_path / "page.html")]) == 2
    assert "some.jpg" in capsys.readouterr().err and not (tmp_path / "page.html").exists()
