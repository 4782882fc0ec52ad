"""Steps that items go through one behind the other, each on a thread of its own: the next item is in the first step
while one is in the last.

Before each step only the newest item of each source waits, so there is never more than that, and a slow step makes the
others leave items out instead of queueing them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from d2vpr_ros.nodes.newest import Newest

Step = Callable[[Any], Any]
"""Takes what the step before gave; None ends an item's way. Does not raise."""


class Stages:
    """Runs from construction to `stop`."""

    def __init__(self, steps: Mapping[str, Step]) -> None:
        """
        Args:
            steps: by the names of their threads, in order.
        """
        self._waiting: list[Newest[tuple[int, Any]]] = [Newest() for _ in steps]
        self._threads = [
            threading.Thread(target=self._run, args=(number, step), name=name)
            for number, (name, step) in enumerate(steps.items())
        ]
        for thread in self._threads:
            thread.start()

    def put(self, item: Any, source: int = 0) -> None:
        """Send an item on its way, in place of any of that source that still waits for the first step."""
        self._waiting[0].put((source, item), source)

    def stop(self) -> None:
        """Let each step finish what it has in hand, and end; what waits is dropped. Safe to call twice."""
        for waiting in self._waiting:
            waiting.close()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int, step: Step) -> None:
        while (waiting := self._waiting[number].take()) is not None:
            source, item = waiting
            result = step(item)
            if result is not None and number + 1 < len(self._waiting):
                self._waiting[number + 1].put((source, result), source)
