"""Numbers along a drive: what is true of images whose place nobody measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.from_images import label_topic
from d2vpr_ros.bags.order import RunWatch
from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import stamp_ns
from d2vpr_ros.mapping import PlaceMap

PLACE_TOPIC = label_topic("place")
"""Where `bag from-images` puts the column `place`: the same number is the same place."""


def image_numbers(bag: Bag, image_topics: Sequence[str]) -> dict[int, float]:
    """The number of each image by its stamp: its place if the bag says it, else how many came before on its topic.

    Raises:
        UserError: a place is not a number; or time begins anew, so that a stamp is no image's own.
    """
    if PLACE_TOPIC in bag.topics:
        return {time_ns: _number(bag, message.data) for _, time_ns, message in bag.messages([PLACE_TOPIC])}
    numbers: dict[int, float] = {}
    count = dict.fromkeys(image_topics, 0)
    watches = {topic: RunWatch(bag, topic) for topic in image_topics}
    for topic, recorded_ns, message in bag.messages(image_topics):
        watches[topic].see(stamp_ns(message.header), recorded_ns)
        numbers[stamp_ns(message.header)] = count[topic]
        count[topic] += 1
    return numbers


def place_numbers(place_map: PlaceMap, recorded: Mapping[int, float]) -> npt.NDArray[np.float64]:
    """(N,) numbers of the places whose images are among the recorded ones, by stamp; NaN of the others.

    Raises:
        UserError: of none.
    """
    numbers = np.array([recorded.get(int(stamp), np.nan) for stamp in place_map.stamps_ns], np.float64)
    if np.isnan(numbers).all():
        raise UserError(
            f"map {place_map.path}: none of its {len(place_map)} places has the stamp of an image of --map-bag; give "
            "the recording that the map was built from"
        )
    return numbers


def place_numbers_by_time(place_map: PlaceMap, asked: Mapping[int, float]) -> npt.NDArray[np.float64]:
    """(N,) numbers of the places where the map's recording is not at hand: counted from each session's first place,
    as fast as the numbers of the images asked about grow."""
    pace_ns = _pace_ns(asked) or 1e9 * place_map.interval_s
    numbers = np.empty(len(place_map))
    for session in np.unique(place_map.sessions):
        rows = place_map.sessions == session
        stamps = place_map.stamps_ns[rows]
        numbers[rows] = np.round((stamps - stamps.min()) / pace_ns)
    return numbers


def _pace_ns(numbers: Mapping[int, float]) -> float | None:
    """Nanoseconds from one number to the next: the median."""
    stamps = np.array(sorted(numbers), np.int64)
    steps = np.abs(np.diff([numbers[int(stamp)] for stamp in stamps]))
    moving = steps > 0
    return float(np.median(np.diff(stamps)[moving] / steps[moving])) if moving.any() else None


def _number(bag: Bag, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise UserError(
            f"{bag.path}: {PLACE_TOPIC} says {text[:40]!r}; expected a number for each place, such as 57, or no column "
            "'place' in the table the bag was made from"
        )
    return number
