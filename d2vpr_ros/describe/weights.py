"""Finding a weights file, the projection that goes with it and its exported form. Imports no torch."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.projection import Projection
from d2vpr_ros.errors import UserError
from d2vpr_ros.share import cache_folder, weights_folder


def weights_path(weights: str) -> Path:
    """The file behind a bundled name or a path."""
    bundled = {path.stem: path for path in weights_folder().glob("*.safetensors") if "." not in path.stem}
    if weights in bundled:
        return bundled[weights]
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"no weights '{weights}': neither a file nor one of the bundled names ({', '.join(bundled)})")
    return path


def projection_of(wanted: str, weights: Path, weights_sha256: str) -> Projection | None:
    """The projection that `Extractor.open` is asked for: `default`, `none` or a file.

    Raises:
        UserError: there is no such file, or it was fitted for other weights.
    """
    beside = weights.with_suffix(".pca512.safetensors")
    if wanted == "none" or (wanted == "default" and not beside.is_file()):
        return None
    path = beside if wanted == "default" else Path(wanted).expanduser()
    projection = Projection.load(path)
    if projection.weights_sha256 != weights_sha256:
        raise UserError(
            f"projection {path} was fitted for other weights than {weights.name}; fit it again with models/fit_pca.py"
        )
    return projection


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def onnx_path(weights: str, projection: str, precision: str = "exact") -> Path:
    """The exported form of weights: an .onnx file as named, else one that is made once and kept in the cache folder.

    Args:
        precision: of `onnx_export.export`; an .onnx file has its own.

    Raises:
        UserError: no such weights or projection, or the exported form is not there and torch, which makes it, neither.
    """
    path = Path(weights).expanduser()
    if path.suffix == ".onnx":
        if projection != "default":
            raise UserError(
                f"projection '{projection}' cannot be used with {path}, which contains its projection; choose it when "
                "exporting: "
                f"d2vpr export WEIGHTS --projection {projection} -o FILE.onnx"
            )
        return path
    source = weights_path(weights)
    sha256 = file_sha256(source)
    shortened = projection_of(projection, source, sha256)
    key = f"{sha256[:16]}-{shortened.hash if shortened else 'whole'}-{Preprocessor().hash}-{precision}"
    return kept_onnx(weights, source, key, lambda kept: _export(source, kept, projection, precision))


def kept_onnx(weights: str, source: Path, key: str, export: Callable[[Path], object]) -> Path:
    """The exported form of `source` in the cache folder; made by `export` if it is not there.

    Raises:
        UserError: it is not there and cannot be made: torch is missing, or the folder cannot be written to.
    """
    kept = cache_folder() / "onnx" / f"{source.stem}-{key}.onnx"
    if kept.is_file():
        return kept
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            f"weights '{weights}' need torch, which is not installed, or their exported form; `pip install torch`, or "
            f"run `d2vpr export {weights} -o {source.stem}.onnx` where torch is, and give that file as the weights"
        )
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot keep an exported form of {source} in {kept.parent} ({error.strerror})") from None
    export(kept)
    return kept


def _export(source: Path, out: Path, projection: str, precision: str) -> None:
    from d2vpr_ros.describe.onnx_export import export

    export(source, out, projection, precision, force=True)
