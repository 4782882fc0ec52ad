"""Closes the loops of the map that is being built, on a thread of its own: keyframes never wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.live import Corrected, LiveLoops
from d2vpr_ros.loops.past import Place

OnPlace = Callable[[Place, Sequence[Closure]], object]
OnCorrected = Callable[[Corrected], object]


class LoopWorker:
    """From construction to `stop`.

    Attributes:
        error: what ended it, if anything did.
        closures: that were accepted so far.
    """

    def __init__(
        self, live: LiveLoops, g2o: Path, optimize_s: float, on_place: OnPlace, on_corrected: OnCorrected
    ) -> None:
        """
        Args:
            g2o: file that `write` writes the graph to.
            optimize_s: seconds from one solution to the next, at least.
            on_place: called on the worker's thread with each place and the closures accepted with it.
            on_corrected: called on that thread after each solution, and where the drive went on without closures.
        """
        self.error: Exception | None = None
        self.closures = 0
        self._live, self._g2o, self._optimize_s = live, g2o, optimize_s
        self._on_place, self._on_corrected = on_place, on_corrected
        self._corrected: Corrected | None = None
        self._solve_is_due = self._has_gone_on = False
        self._solved_s = float("-inf")
        self._using = threading.Lock()  # the live loops: the worker's thread and that of the service
        self._changed = threading.Condition()
        self._is_stored, self._stopped = True, False  # something may be there
        self._thread = threading.Thread(target=self._run, name="d2vpr loops")
        self._thread.start()

    def stored(self, place: int) -> None:
        """A place is in the map; called by whoever stored it, and returns at once."""
        with self._changed:
            self._is_stored = True
            self._changed.notify()

    def catch_up(self) -> None:
        """Take all that is stored and solve, on the caller's thread."""
        if self.error is None:
            with self._using:
                self._take_new(to_the_end=True)
                self._solve()

    def write(self) -> None:
        """Take what is stored since `catch_up`, solve, and write map and g2o file, while nobody else writes to the map.

        Raises:
            UserError: one of them cannot be written.
        """
        with self._using:
            self._take_new(to_the_end=True)
            self._solve_is_due = True  # what goes on by odometry alone is not in the last solution
            self._solve()
            if self._corrected is not None:
                self._live.write(self._corrected.closing, self._g2o)

    def stop(self) -> None:
        """End after the place in hand."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    @property
    def corrected(self) -> Corrected | None:
        """The last solution."""
        return self._corrected

    def _run(self) -> None:
        try:
            while self._wait():
                with self._using:
                    self._take_new(to_the_end=False)
                    if time.monotonic() - self._solved_s >= self._optimize_s:
                        self._solve()
        except Exception as error:  # mapping goes on; the node says so
            self.error = error

    def _wait(self) -> bool:
        """For places, or for the time of the next solution; False when it is told to stop."""
        with self._changed:
            is_open = self._solve_is_due or self._has_gone_on
            rest_s = max(0.0, self._solved_s + self._optimize_s - time.monotonic()) if is_open else None
            self._changed.wait_for(lambda: self._is_stored or self._stopped, rest_s)
            self._is_stored = False
            return not self._stopped

    def _take_new(self, to_the_end: bool) -> None:
        for place, closures in self._live.take_new():
            self._on_place(place, closures)
            self.closures += len(closures)
            self._has_gone_on = True
            self._solve_is_due |= bool(closures)
            if self._stopped and not to_the_end:
                return

    def _solve(self) -> None:
        if not self._has_gone_on and not self._solve_is_due:
            return
        if self._solve_is_due or self._corrected is None or self._corrected.map_odom is None:
            self._corrected = self._live.correct()
        else:
            self._corrected = self._live.gone_on(self._corrected)
        self._solve_is_due = self._has_gone_on = False
        self._solved_s = time.monotonic()
        if self._corrected is not None:
            self._on_corrected(self._corrected)
