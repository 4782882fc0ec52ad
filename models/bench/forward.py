"""How fast the network runs, against the paper's released code and against what its arithmetic costs at least.

    python -m models.bench.forward                             # small, random weights, this machine's processor
    python -m models.bench.forward --weights nano --threads 1
    python -m models.bench.forward --compile --onnx            # also torch.compile and ONNX Runtime
    python -m models.bench.forward --weights nano --against small   # how many times as fast nano is
    python -m models.bench.forward --device cuda               # a GPU: float16 and bfloat16, batch 1 and 64

All contenders run in turn, once a round; times are medians, and a ratio is the median of the ratios within a round,
so a machine that is busy with other things disturbs it little. The floor is the arithmetic (torch's own count) at the
best rate at which the same machine multiplies large matrices in the same run. Times do not depend on the weights, so
random ones do.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import CONFIGS, D2VPR, FusedD2VPR, fuse, load_checkpoint
from models.bench.parts import flop, parts_of
from models.bench.reference import reference_forward
from models.bench.timing import ROUNDS, Times, median_ms, processor, race, ratio

PEAK_SIDE = 1536  # of the matrices that find the peak rate: large enough for it, 8 MB each
TOLERANCE = 2e-5
GPU_PEAK_SIDE = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="small", help="small or nano with random weights, or a weights file")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which needs a C++ compiler")
    parser.add_argument("--against", help="on a processor also another network, named as for --weights, as trained")
    parser.add_argument("--onnx", action="store_true", help="also ONNX Runtime, on the same inference form")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    model = network(args.weights)
    if args.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("device cuda was asked for, but torch finds no GPU here")
        on_gpu(model, args.rounds)
    else:
        on_processor(model, args.rounds, args.compile, args.onnx, network(args.against) if args.against else None)


def network(weights: str) -> D2VPR:
    """A network with the weights of a file, or of a named size with random ones."""
    if weights in CONFIGS:
        return D2VPR(CONFIGS[weights]).eval()
    try:
        model = load_checkpoint(weights_path(weights))
    except UserError as error:
        raise SystemExit(str(error)) from None
    if not isinstance(model, D2VPR) or model.encoder is not None:
        raise SystemExit(f"{weights} is no D²-VPR network without a cross-image encoder")
    return model


@torch.inference_mode()
def on_processor(model: D2VPR, rounds: int, compiled: bool, onnx: bool, other: D2VPR | None = None) -> None:
    """Prints the tables of a processor: float32, one image; and how many times as fast it is as another network."""
    fused, image = fuse(model), torch.randn(1, 3, 224, 224)
    difference = max(
        float((other - model(image)).abs().max()) for other in (reference_forward(model, image), fused(image))
    )
    if difference > TOLERANCE:
        raise SystemExit(f"the forms differ by {difference:.1e}, more than {TOLERANCE}")
    square = torch.randn(PEAK_SIDE, PEAK_SIDE)
    channels_last = image.contiguous(memory_format=torch.channels_last)
    contenders: dict[str, Callable[[], object]] = {
        "reference": lambda: reference_forward(model, image),
        "plain": lambda: model(image),
        "fused": lambda: fused(image),
        "fused backbone alone": lambda: fused.backbone(image),
        "fused, channels last": lambda: fused(channels_last),
    }
    if compiled:
        quick = torch.compile(fused, options={"freezing": True, "max_autotune": False})
        contenders["fused, torch.compile"] = lambda: quick(image)
    if onnx:
        contenders["fused, ONNX Runtime"] = _onnx_runtime(fused, image)
    if other is not None:
        contenders["other"] = lambda: other(image)
    parts = parts_of(fused, image)
    contenders |= {part.name: part.run for part in parts}
    contenders["peak"] = lambda: square @ square
    times = race(contenders, rounds)

    rate = 2 * PEAK_SIDE**3 / median_ms(times, "peak") * 1e3
    print(f"{processor()}; float32, batch 1, {model.config.name}; peak {rate / 1e9:.0f} GFLOP/s\n")
    print("| forward | ms | times the reference's speed | GFLOP | at the peak rate, ms |\n|---|---:|---:|---:|---:|")
    wholes = [name for name in contenders if name not in {"peak", "other", *(part.name for part in parts)}]
    for name in wholes:
        count = _flop_of_form(name, model, fused, image)
        print(_row(name, times, count, rate))
    print(f"\nfused against its backbone alone: {ratio(times, 'fused', 'fused backbone alone'):.3f}")
    print(f"floor of the arithmetic against the reference: {_floor_ratio(times, flop(contenders['fused']), rate):.2f}")
    if other is not None:
        print(f"as trained {ratio(times, 'other', 'plain'):.2f} times as fast as {other.config.name}")
    print("\n| part | ms | GFLOP | at the peak rate, ms | above it, ms |\n|---|---:|---:|---:|---:|")
    for part in parts:
        spent, least = median_ms(times, part.name), 1e3 * part.flop / rate
        print(f"| {part.name} | {spent:.2f} | {part.flop / 1e9:.3f} | {least:.2f} | {spent - least:.2f} |")
    spent, least = sum(median_ms(times, p.name) for p in parts), 1e3 * sum(p.flop for p in parts) / rate
    print(f"| all parts | {spent:.1f} | {sum(p.flop for p in parts) / 1e9:.3f} | {least:.1f} | {spent - least:.1f} |")


def _flop_of_form(name: str, model: D2VPR, fused: FusedD2VPR, image: Tensor) -> int:
    if name == "reference":
        return flop(lambda: reference_forward(model, image))
    if name == "plain":
        return flop(lambda: model(image))
    return flop(lambda: fused.backbone(image) if "backbone" in name else fused(image))


def _row(name: str, times: Times, count: int, rate: float) -> str:
    speed = ratio(times, "reference", name)
    return f"| {name} | {median_ms(times, name):.1f} | {speed:.2f} | {count / 1e9:.2f} | {1e3 * count / rate:.1f} |"


def _floor_ratio(times: Times, count: int, rate: float) -> float:
    return median_ms(times, "reference") / (1e3 * count / rate)


def _onnx_runtime(fused: FusedD2VPR, image: Tensor) -> Callable[[], object]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fused.onnx"
        torch.onnx.export(fused, (image,), path, opset_version=17, input_names=["images"], dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"images": image.numpy()}
    return lambda: session.run(None, feed)


@torch.inference_mode()
def on_gpu(model: D2VPR, rounds: int) -> None:
    """Prints the table of a GPU: one image and 64, float32, float16 and bfloat16; one image as a CUDA graph."""
    model = model.cuda()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; {model.config.name}\n")
    print("| forward | type | batch | ms | images/s | times the reference | share of the peak rate |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        fused = fuse(model).cuda()
        fused.backbone.to(dtype)
        square = torch.randn(GPU_PEAK_SIDE, GPU_PEAK_SIDE, device="cuda", dtype=dtype)
        for batch in (1, 64):
            images = torch.randn(batch, 3, 224, 224, device="cuda")
            contenders: dict[str, Callable[[], object]] = {
                "reference": _autocast(model, images, dtype),
                "fused": partial(fused, images),
                "fused, CUDA graph": _cuda_graph(fused, images),
                "peak": partial(torch.matmul, square, square),
            }
            times = race(contenders, rounds)
            rate = 2 * GPU_PEAK_SIDE**3 / median_ms(times, "peak") * 1e3
            least_ms = 1e3 * flop(partial(fused, images)) / rate
            for name in ("reference", "fused", "fused, CUDA graph"):
                spent = median_ms(times, name)
                print(
                    f"| {name} | {str(dtype).removeprefix('torch.')} | {batch} | {spent:.2f} | "
                    f"{1e3 * batch / spent:.0f} | {ratio(times, 'reference', name):.2f} | {least_ms / spent:.0%} |"
                )


def _autocast(model: D2VPR, images: Tensor, dtype: torch.dtype) -> Callable[[], object]:
    """The reference in the same number type; autocast, because its aggregation overflows where it is all half."""

    def run() -> Tensor:
        with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
            return reference_forward(model, images)

    return run


def _cuda_graph(fused: FusedD2VPR, images: Tensor) -> Callable[[], object]:
    """One launch for the whole pass, which at batch 1 costs more than the arithmetic."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(aside):
        for _ in range(3):
            fused(images)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        fused(images)
    return graph.replay


if __name__ == "__main__":
    main()
