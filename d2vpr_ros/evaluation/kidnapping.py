"""Carry the robot to another place of a drive without telling it, and see how soon it knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.offline import Answered, Described, Fixed, Gps, Moved, ask, open_session
from d2vpr_ros.evaluation.truth import Judge
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.compose import decode_jpeg, encode_jpeg
from d2vpr_ros.localize import Localizer
from d2vpr_ros.localize.session import LocalizerSession

FOLLOWED_M = 50.0
"""How far each kidnapped robot is watched."""

_AWAY_M = 20.0  # at least, from where it was
_CARRIED_NS = 1_000_000_000
_SEED = 4
_NO_PIXELS = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Kidnapping:
    """One robot that was carried somewhere else.

    Attributes:
        found_m: metres it drove until its first right answer; None if it had none in FOLLOWED_M.
        wrong: how many wrong answers it gave meanwhile and after, on all of FOLLOWED_M.
    """

    found_m: float | None
    wrong: int


@dataclass(frozen=True)
class Recovery:
    """Of all kidnappings.

    Attributes:
        found: those with a right answer; median_m, p95_m: metres to it, None where not so many were found.
        wrong_answers: how many were given; misled: kidnappings with any.
    """

    kidnapped: int
    found: int
    median_m: float | None
    p95_m: float | None
    wrong_answers: int
    misled: int

    def line(self) -> str:
        """For people."""
        metres = ["never" if value is None else f"{value:.1f} m" for value in (self.median_m, self.p95_m)]
        return (
            f"kidnapped {self.kidnapped} times: found again {self.found} times, after {metres[0]} (median), "
            f"{metres[1]} (95 %); {self.wrong_answers} wrong answers in {self.misled} of them"
        )


def recovery(kidnappings: Sequence[Kidnapping]) -> Recovery:
    """Count."""
    metres = [np.inf if one.found_m is None else one.found_m for one in kidnappings]
    # Metres within which so many were found, never a mean of some metres and never.
    median_m, p95_m = (float(one) for one in np.quantile(metres, [0.5, 0.95], method="inverted_cdf"))
    return Recovery(
        kidnapped=len(metres),
        found=int(np.isfinite(metres).sum()),
        median_m=median_m if np.isfinite(median_m) else None,
        p95_m=p95_m if np.isfinite(p95_m) else None,
        wrong_answers=sum(one.wrong for one in kidnappings),
        misled=sum(one.wrong > 0 for one in kidnappings),
    )


@dataclass(frozen=True, eq=False)
class Remembered:
    """One image of a drive, kept to drive there again; its pixels as JPEG: those of a long drive would fill the memory.

    Attributes:
        image: without its pixels.
    """

    image: Described
    jpeg: bytes


def remembering(images: Iterable[Described], kept: list[Remembered]) -> Iterator[Described]:
    """The same images, each of which is put into the list, too."""
    for image in images:
        without = replace(image, frame=replace(image.frame, rgb=_NO_PIXELS))
        kept.append(Remembered(without, encode_jpeg(image.frame.rgb)))
        yield image


def kidnap(
    localizer: Localizer,
    judge: Judge,
    every: Sequence[Answered],
    images: Sequence[Remembered],
    count: int,
    gps: Gps | None = None,
) -> list[Kidnapping]:
    """Drive on from `count` random images, one after the other, each time carried there while the localizer goes on.

    Time goes on, too; odometry starts at its zero again.

    Args:
        every, images: what was said to a whole drive, and its images.

    Raises:
        UserError: the drive is too short.
    """
    positions = np.array([a.query.truth.position if a.query and a.query.truth else [np.nan] * 3 for a in every])
    if any(a.query and a.query.horizontal for a in every):
        positions[:, 2] = 0.0
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    metres = np.concatenate([[0.0], np.cumsum(np.nan_to_num(steps))])
    answerable = np.array([bool(a.query and a.query.answerable) for a in every])
    possible = np.flatnonzero(answerable & (metres <= metres[-1] - FOLLOWED_M))
    draw, was, clock_ns = np.random.default_rng(_SEED), np.full(3, np.inf), images[0].image.frame.stamp_ns
    kidnappings = []
    session = open_session(localizer, gps)  # that its odometry begins anew is what is asked for
    for _ in range(count + 1):  # the first one is no kidnapping: where the robot is before
        away = possible[np.linalg.norm(positions[possible] - was, axis=1) > _AWAY_M]
        if not len(away):
            raise UserError(
                f"--kidnap: the drive of {metres[-1]:.0f} m has no two places of the map {_AWAY_M:g} m apart with "
                f"{FOLLOWED_M:g} m left; use a longer drive, or leave --kidnap out"
            )
        start = int(draw.choice(away))
        end = int(np.searchsorted(metres, metres[start] + FOLLOWED_M, side="right"))
        kidnappings.append(_follow(session, judge, images[start:end], metres[start:end] - metres[start], clock_ns))
        followed_ns = images[end - 1].image.frame.stamp_ns - images[start].image.frame.stamp_ns
        clock_ns += followed_ns + _CARRIED_NS
        was = positions[start:end][~np.isnan(positions[start:end, 0])][-1]
    return kidnappings[1:]


def _follow(
    session: LocalizerSession,
    judge: Judge,
    images: Sequence[Remembered],
    metres: npt.NDArray[np.float64],
    clock_ns: int,
) -> Kidnapping:
    """Drive through these images, of which the first is taken at `clock_ns`, with odometry that begins at its zero."""
    found_m, wrong, shift_ns = None, 0, clock_ns - images[0].image.frame.stamp_ns
    zero: Pose | None = None
    for number, (remembered, driven_m) in enumerate(zip(images, metres, strict=True)):
        image, before = remembered.image, list[Moved | Fixed]()
        for one in image.before if number else _newest(image.before):
            if isinstance(one, Fixed):
                before.append(Fixed(one.fix and replace(one.fix, stamp_ns=one.fix.stamp_ns + shift_ns)))
            else:
                zero = zero or one.pose
                before.append(Moved(one.stamp_ns + shift_ns, zero.inverse() @ one.pose))
        rgb, stamp_ns = decode_jpeg(remembered.jpeg), image.frame.stamp_ns
        assert rgb is not None, "it was encoded above"
        now = replace(image.frame, rgb=rgb, stamp_ns=stamp_ns + shift_ns)
        estimate = ask(session, replace(image, frame=now, before=tuple(before)))
        query = judge(image.frame.camera, replace(estimate, stamp_ns=stamp_ns))
        if query and query.accepted and query.right and found_m is None:
            found_m = float(driven_m)
        wrong += bool(query and query.accepted and not query.right)
    return Kidnapping(found_m, wrong)


def _newest(inputs: Sequence[Moved | Fixed]) -> Sequence[Moved | Fixed]:
    """The last of each kind."""
    return list({type(one): one for one in inputs}.values())
