"""Names of parameters and arguments that nothing declares. ROS ignores them without a word. No ROS is imported here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OF_EVERY_NODE = ("use_sim_time", "start_type_description_service")
"""Parameters that rclpy declares itself."""

_ALIKE = 0.8  # of close_matches: below, a name is one of another node's more often than a slip


def unknown(given: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """The given parameters that a node does not declare, each with a hint."""
    known = list(known)
    hints = {}
    for name in given:
        if name not in known and name not in OF_EVERY_NODE and not name.startswith("qos_overrides."):
            near = difflib.get_close_matches(name, known, n=1)
            hints[name] = f"did you mean {near[0]}?" if near else "docs/reference.md lists the parameters"
    return hints


def slips(given: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Given launch arguments that none declares, by the one that is hardly spelled differently.

    Others are left alone: a launch file that includes another one has arguments of its own.
    """
    known = list(known)
    nearest = {name: difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE) for name in given if name not in known}
    return {name: near[0] for name, near in nearest.items() if near}
