"""Threads that work until they are told to end, or until one of them fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping


class Workers:
    """Runs each function on a thread of its own.

    Attributes:
        error: what the first of them to fail raised.
    """

    def __init__(self, works: Mapping[str, Callable[[], None]], discard: Callable[[], None]) -> None:
        """
        Args:
            works: by the thread's name.
            discard: makes them all end after what they have in hand; called when one fails, and on Ctrl-C.
        """
        self.error: BaseException | None = None
        self._discard = discard
        self._ended = threading.Condition()
        self._running = 0
        self._threads = [threading.Thread(target=self._run, args=(work,), name=name) for name, work in works.items()]

    def start(self) -> None:
        self._running = len(self._threads)
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.error is not None:
            raise self.error

    def wait(self) -> None:
        """Wait until all have ended; Ctrl-C is raised again after that, for what they work on must not go away.

        Not by `Thread.join` alone: interrupted, it takes a running thread for an ended one (CPython before 3.13).
        """
        interrupt: KeyboardInterrupt | None = None
        while self._running:
            try:
                with self._ended:
                    self._ended.wait_for(lambda: not self._running)
            except KeyboardInterrupt as again:
                interrupt = again
                self._discard()
        for thread in self._threads:
            thread.join()
        if interrupt is not None:
            raise interrupt

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.error = self.error or error
            self._discard()
        finally:
            with self._ended:
                self._running -= 1
                self._ended.notify_all()
