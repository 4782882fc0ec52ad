"""From a published file to weights the package loads: downloaded, checked, and converted to float16 safetensors."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from d2vpr_ros.describe.weights import file_sha256
from d2vpr_ros.errors import UserError
from d2vpr_ros.weights.download import WebPage, download
from d2vpr_ros.weights.official import OfficialFile


def fetch(official: OfficialFile, folder: Path, brought: Path | None = None) -> Path:
    """Get one official file and return what to give as weights: NAME.safetensors, or the file itself for a start.

    What is there already is kept. The first time, the file's SHA-256 is recorded in FILE.sha256 (as sha256sum writes
    it); from then on a file with another one is put aside as FILE.refused and nothing else changes.

    Args:
        folder: made if need be.
        brought: a file that was downloaded otherwise, instead of a download; it is copied.

    Raises:
        UserError: it cannot be had, is not the file recorded, or is no such network.
    """
    if importlib.util.find_spec("torch") is None:
        raise UserError(f"{official.name} needs torch, which is not installed; `pip install torch` and try again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created for weights ({error.strerror}); give another --folder") from None
    raw = folder / official.file_name
    result = folder / f"{official.name}.safetensors" if official.network else raw
    incoming = folder / f"{official.file_name}.new"
    if brought is not None:
        if not brought.is_file():
            raise UserError(f"{brought}: no such file; expected {official.name} as downloaded from {official.page}")
        shutil.copyfile(brought, incoming)
    elif not raw.is_file():
        try:
            download(official.url, incoming, official.name)
        except WebPage as error:
            raise UserError(
                f"{error}; open {official.page} in a browser, save the file, and run `d2vpr weights fetch "
                f"{official.name} --from FILE`"
            ) from None
    if not incoming.is_file():
        _check(raw, raw, official)
        if result.is_file():
            return result
        _convert(raw, result, official)
        return result
    _check(incoming, raw, official)
    try:
        _convert(incoming, result, official)
    except UserError:
        incoming.replace(raw.with_name(raw.name + ".refused"))
        raise
    incoming.replace(raw)
    _record_of(raw).write_text(f"{file_sha256(raw)}  {raw.name}\n", encoding="utf-8")
    return result


def recorded_sha256(official: OfficialFile, folder: Path) -> str | None:
    """What was recorded at first use; None where nothing was."""
    record = _record_of(folder / official.file_name)
    return record.read_text(encoding="utf-8").split()[0] if record.is_file() else None


def _record_of(raw: Path) -> Path:
    return raw.with_name(raw.name + ".sha256")


def _check(path: Path, raw: Path, official: OfficialFile) -> None:
    """Refuse a file whose SHA-256 is not the one recorded, if one is."""
    expected, found = recorded_sha256(official, raw.parent), file_sha256(path)
    if expected is None or expected == found:
        return
    aside = path
    if path != raw:
        aside = raw.with_name(raw.name + ".refused")
        path.replace(aside)
    raise UserError(
        f"{aside}: SHA-256 {found[:16]}… is not the {expected[:16]}… recorded in {_record_of(raw).name} at the first "
        "download; if the change is intended, remove the record"
    )


def _convert(path: Path, result: Path, official: OfficialFile) -> None:
    """Write `result` from a downloaded network; of a start for training look at its names only."""
    from d2vpr_ros.model import load_checkpoint
    from d2vpr_ros.model.checkpoint import read_state_dict
    from d2vpr_ros.weights.float16 import float16_file

    if not official.network:
        if "cls_token" not in read_state_dict(path)[0]:
            raise UserError(f"{path}: contains no vision transformer; expected {official.what} from {official.page}")
        return
    notes = {"source": official.page, "licence": official.licence, "source_sha256": file_sha256(path)}
    try:
        content = float16_file(load_checkpoint(path), notes)
    except ValueError as error:
        raise UserError(f"{path}: not kept as float16 ({error})") from None
    partial = result.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(result)
