"""The files that others published, with where they come from and under which licence.

None of them comes with this package. No SHA-256 of them is published; the one of the first download is recorded
beside the file, and a later download has to be the same.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OfficialFile:
    """One published file of weights.

    Attributes:
        name: as `d2vpr weights fetch` takes it.
        what: it is.
        url: of the file itself.
        page: for a browser, where `url` asks a person to confirm.
        licence: as far as stated.
        source: the repository whose README links it.
        file_name: of the download.
        network: whether it is a whole network that `load_checkpoint` reads; else a start for training, kept as it is.
    """

    name: str
    what: str
    url: str
    page: str
    licence: str
    source: str
    file_name: str
    network: bool = True


def _on_drive(identifier: str) -> tuple[str, str]:
    """A Google-Drive file's address and page; `confirm` answers the question that files too large to be scanned ask."""
    address = f"https://drive.usercontent.google.com/download?id={identifier}&export=download&confirm=t"
    return address, f"https://drive.google.com/file/d/{identifier}/view"


_D2VPR = "github.com/tony19980810/D2VPR"
_NOT_STATED = "not stated (README and branch of November 2025 have none; another commit held an MIT LICENSE)"
_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"

OFFICIAL = (
    OfficialFile(
        "d2vpr",
        "D²-VPR without cross-image encoder: for maps and live",
        *_on_drive("1uh4XZsmRBhPkGuBNTWtjNypoGBd2JWyy"),
        _NOT_STATED,
        _D2VPR,
        "d2vpr_no_encoder.pth",
    ),
    OfficialFile(
        "d2vpr-distilled",
        "D²-VPR after distillation, with encoder: for offline evaluation (Pitts, SPED, AmsterTime)",
        *_on_drive("1tcsn-U-v-jfRHr9-BIyIyCfezdse_iy_"),
        _NOT_STATED,
        _D2VPR,
        "d2vpr_distilled.pth",
    ),
    OfficialFile(
        "d2vpr-finetuned",
        "D²-VPR fine-tuned, with encoder: for offline evaluation (MSLS, Nordland)",
        *_on_drive("1FwJY2hhuMLh4OJFTr7cMzRM7WrZ2Qb9a"),
        _NOT_STATED,
        _D2VPR,
        "d2vpr_finetuned.pth",
    ),
    OfficialFile(
        "cricavpr",
        "CricaVPR, the teacher to distil from",
        *_on_drive("171lCcxZFFnvEvo88ntIwELeBegcMTEJs"),
        "MIT (LICENSE of the repository)",
        "github.com/Lu-Feng/CricaVPR",
        "CricaVPR.pth",
    ),
    OfficialFile(
        "dinov2-small",
        "DINOv2 ViT-S/14, the student to start distillation from",
        _DINOV2,
        _DINOV2,
        "Apache-2.0 (code and model weights, README)",
        "github.com/facebookresearch/dinov2",
        "dinov2_vits14_pretrain.pth",
        network=False,
    ),
)
