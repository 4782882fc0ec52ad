"""Downloading one file: resumed where it was interrupted, never taken for complete when it is not."""

from __future__ import annotations

import contextlib
import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from d2vpr_ros.errors import UserError

TIMEOUT_S = 30.0
_CHUNK = 1 << 18


class WebPage(UserError):
    """The address answered with a page for people."""


def download(url: str, target: Path, what: str) -> None:
    """Fetch `url` into `target`; what has arrived lies in TARGET.part, and a further call goes on from there.

    The part is only continued if the server's mark for the file's version (ETag or Last-Modified) is the same.

    Raises:
        WebPage: the server sent HTML; nothing is kept of it.
        UserError: no answer, an error, or an end before the end. What has arrived is kept.
    """
    part, mark = target.with_name(target.name + ".part"), target.with_name(target.name + ".part.version")
    start = part.stat().st_size if part.is_file() else 0
    version = mark.read_text(encoding="utf-8").strip() if start and mark.is_file() else ""
    headers = {"User-Agent": "d2vpr"} | ({"Range": f"bytes={start}-", "If-Range": version} if version else {})
    try:
        with _open(urllib.request.Request(url, headers=headers)) as answer:
            if "html" in answer.headers.get_content_type():
                raise WebPage(f"{what}: {urlsplit(url).hostname} sent a web page instead of the file")
            start = start if answer.status == 206 and _starts_at(answer) == start else 0
            length = answer.headers.get("Content-Length")
            total = start + int(length) if length else None
            mark.write_text(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "", encoding="utf-8")
            arrived = _receive(answer, part, start, total, what)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(error, url, what, part) from None
    if total is not None and arrived != total:
        raise UserError(
            f"{what}: the connection ended after {arrived} of {total} bytes; run the same command again to continue"
        )
    part.rename(target)
    mark.unlink()


def _open(request: urllib.request.Request) -> Any:
    """The answer; if the server has nothing behind the part (it changed, or the part is whole), from the beginning."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
    return urllib.request.urlopen(urllib.request.Request(request.full_url, headers={"User-Agent": "d2vpr"}))


def _starts_at(answer: Any) -> int | None:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _receive(answer: Any, part: Path, start: int, total: int | None, what: str) -> int:
    """Append what comes to `part`, from `start` on; returns its size."""
    arrived = start
    with (
        part.open("r+b" if start else "wb") as file,
        tqdm(total=total, initial=start, desc=what, unit="B", unit_scale=True, disable=None) as bar,
        contextlib.suppress(http.client.IncompleteRead),  # told by the caller, who compares sizes
    ):
        file.seek(start)
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            arrived += len(chunk)
            bar.update(len(chunk))
    return arrived


def _unreachable(error: Exception, url: str, what: str, part: Path) -> UserError:
    host = urlsplit(url).hostname
    if isinstance(error, urllib.error.HTTPError):
        return UserError(f"{what}: {host} answered {error.code} {error.reason} to {url}")
    reason = getattr(error, "reason", None) or error
    kept = f"; {part.stat().st_size} bytes are kept; run the same command again to continue" if part.is_file() else ""
    return UserError(
        f"{what}: no connection to {host} ({reason}){kept}; without a network, download the file elsewhere and give it "
        "with --from"
    )
