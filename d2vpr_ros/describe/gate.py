"""What a form in fewer bits, or another device, has to keep: the descriptors of float32, and the places they find.

One gate for all of them: the presets of torch, exported files, GPUs and engines. It is tried on places and a changed
view of each (`trial`); each view's nearest place is a decision. Of 16 a single other one is 6 points, so none may
change. What was measured on real footage, which is not shipped, comes with the weights as a small file
(`footage_refusals`), written by models/bench/precision.py; weights without one have the 16 places alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.gate_pictures import changed_view, gate_places
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import one_line

MIN_COSINE = 0.999
"""Least cosine to float32's descriptor on every picture."""
MOST_POINTS = 0.5
"""Of recall, in points of a hundred: what may change at most."""

Image = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """What became of float32's descriptors.

    Attributes:
        cosine: the least of all pictures; nan where a descriptor is not finite.
        changed: views whose nearest place is another, in points of a hundred, with the places described as the view
            is or in float32, whichever is more.
    """

    cosine: float
    changed: float

    @property
    def refusal(self) -> str:
        """Why this is not good enough, in a few words; empty if it is."""
        if not self.cosine >= MIN_COSINE:
            return f"cosine to float32 {self.cosine:.4f}, less than {MIN_COSINE:g}"
        if self.changed > MOST_POINTS:
            return f"{self.changed:.1f} % of the views find another place than float32, more than {MOST_POINTS:g}"
        return ""


def trial(squash: Callable[[Image], Image], images: Sequence[Image] | None = None) -> Image:
    """(2N, S, S, 3) uint8: N places, then a changed view of each.

    Args:
        squash: to the network's size.
        images: RGB pictures (H, W, 3) uint8 of places; none takes drawn ones.
    """
    places = gate_places() if images is None else list(images)
    views = [changed_view(place, number) for number, place in enumerate(places)]
    return np.stack([squash(picture) for picture in (*places, *views)])


def described(describe: Callable[[Image], Float32], pictures: Image) -> Float32:
    """(N, D) descriptors of (N, S, S, 3) pictures, one at a time as live."""
    return np.concatenate([describe(picture[None]) for picture in pictures])


def compare(exact: Float32, other: Float32) -> Kept:
    """Descriptors (2N, D) of one trial, in float32 and in another form."""
    count = len(exact) // 2
    cosine = float(np.einsum("nd,nd->n", exact, other, dtype=np.float64).min())
    found = np.argmax(exact[count:] @ exact[:count].T, axis=1)
    maps = (other[:count], exact[:count])
    return Kept(cosine, max(100 * float(np.mean(np.argmax(other[count:] @ row.T, axis=1) != found)) for row in maps))


def footage_refusals(weights: Path, weights_sha256: str) -> dict[str, str]:
    """The forms that change recall on footage too much with these weights, each with what it changes, in words.

    From the file `<name>.forms.json` beside the weights; empty where there is none or it was measured for others.

    Raises:
        UserError: the file holds something else.
    """
    path = forms_path(weights)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["weights_sha256"] != weights_sha256:
            return {}
        changes = {
            str(form): recall_refusal(float(most["points"]), one_line(most["footage"]))
            for form, most in content["largest_change"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(
            f"file {path} is no record of reduced precisions on footage; remove it, or measure again in a checkout: "
            "python -m models.bench.precision --footage FOOTAGE --record"
        ) from None
    return {form: refusal for form, refusal in changes.items() if refusal}


def write_changes(weights: Path, weights_sha256: str, largest: Mapping[str, tuple[float, str]]) -> Path:
    """What `footage_refusals` reads: of each form the largest change of recall@1 in points, and on which footage."""
    path = forms_path(weights)
    changes = {form: {"points": round(points, 2), "footage": footage} for form, (points, footage) in largest.items()}
    content = {"weights_sha256": weights_sha256, "largest_change": changes}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def forms_path(weights: Path) -> Path:
    """Where the record of a weights file lies."""
    return weights.with_suffix(".forms.json")


def recall_refusal(points: float, footage: str) -> str:
    """Why a change of recall@1 on footage is too much, in words; empty if it is not."""
    if abs(points) <= MOST_POINTS:
        return ""
    return f"recall@1 on {footage} changes by {points:+.1f} points, more than {MOST_POINTS:g}"
