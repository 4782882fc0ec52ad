"""One preprocessing for training, maps and live: eight bits, quick, and as good as the same in float32."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.preprocess import Preprocessor, resampled
from d2vpr_ros.describe.resample import squash
from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.model import FusedD2VPR, fuse, load_checkpoint
from models.bench.preprocess import in_float32

SIZES = [(1920, 1080), (641, 479), (320, 240), (100, 300), (224, 224)]
MIN_COSINE = 0.9999
MIN_COSINE_TO_FLOATS = 0.9995  # nano feels the rounding to whole levels in soft, grey pictures


def scene(width: int, height: int) -> npt.NDArray[np.uint8]:
    return cv2.resize(gate_pictures(1)[0], (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> FusedD2VPR:
    return fuse(load_checkpoint(weights_path("nano")))  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "height"), SIZES)
@torch.inference_mode()
def test_descriptors_agree_with_those_of_float32_resampling(network: FusedD2VPR, width: int, height: int) -> None:
    prepare, image = Preprocessor(), scene(width, height)
    exact = network(in_float32(prepare, image))
    assert float((exact * network(prepare([image]))).sum()) >= MIN_COSINE_TO_FLOATS


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_is_the_resampling_of_pil_to_a_level(width: int, height: int) -> None:
    image = scene(width, height)
    by_pil = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR), np.int16)
    ours = Preprocessor().squash(image).astype(np.int16)
    assert np.abs(ours - by_pil).max() <= 1


@torch.inference_mode()
def descriptors_agree(network: FusedD2VPR, ours: torch.Tensor, other: torch.Tensor) -> None:
    prepare = Preprocessor()
    assert int((ours.int() - other.int()).abs().max()) <= 2
    first, second = (network(prepare.normalise(image[None])) for image in (ours, other))
    assert float((first * second).sum()) >= MIN_COSINE


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_device_without_eight_bit_resampling_rounds_to_the_same_levels(
    network: FusedD2VPR, width: int, height: int
) -> None:
    image = scene(width, height)
    by_float = resampled(torch.from_numpy(image).float(), 224)
    assert by_float.dtype == torch.uint8
    descriptors_agree(network, Preprocessor().resize(image), by_float)


@pytest.mark.parametrize(("width", "height"), [size for size in SIZES if min(size) < 896])
def test_without_torch_it_is_the_same_but_for_a_few_single_levels(network: FusedD2VPR, width: int, height: int) -> None:
    image, prepare = scene(width, height), Preprocessor()
    without_torch = torch.from_numpy(squash(image, prepare.size)).permute(2, 0, 1)
    assert float((without_torch != prepare.resize(image)).float().mean()) < 0.05
    descriptors_agree(network, prepare.resize(image), without_torch)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_images_are_prepared_on_the_gpu_where_the_network_is(network: FusedD2VPR, width: int, height: int) -> None:
    image = scene(width, height)
    on_gpu = Preprocessor().resize(image, "cuda")
    assert on_gpu.is_cuda
    descriptors_agree(network, Preprocessor().resize(image), on_gpu.cpu())


def test_what_waits_for_the_network_is_small_and_on_the_host_wherever_it_was_prepared() -> None:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    image = scene(641, 479)
    prepared = [Extractor.open("nano", "torch", device=device).prepare(image) for device in devices]
    for one in prepared:
        assert one.shape == (224, 224, 3)
        assert one.dtype == np.uint8
        assert np.abs(one.astype(int) - prepared[0]).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1936, 1216), (3840, 2160)])
def test_a_large_image_is_squashed_without_torch_nearly_to_the_same_levels(width: int, height: int) -> None:
    image = scene(width, height)
    off = squash(image, 224).astype(int) - Preprocessor().squash(image)
    assert np.abs(off).mean() < 0.3
    assert abs(off.mean()) < 0.05


def test_a_view_of_an_image_is_as_good_as_a_copy() -> None:
    image = scene(320, 240)
    turned = image[::-1, ::-1, ::-1]  # a camera upside down, and its other order of colours
    assert torch.equal(Preprocessor().resize(turned), Preprocessor().resize(turned.copy()))
    wide = np.dstack([image, image])[..., :3]  # rows with something between the pixels
    assert torch.equal(Preprocessor().resize(wide), Preprocessor().resize(image))


def test_the_hash_of_the_bundled_maps_and_weights_stays() -> None:
    assert Preprocessor().hash == "67e53a3c0a4d5553"
