"""Hand-over from callbacks to a worker: only the newest item of each source is kept, so a slow one is never behind."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """A slot for one item of each source, served in turn; `put` never blocks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: dict[int, T] = {}
        self._served: list[int] = []  # sources, the last one served last
        self._closed = False

    def put(self, item: T, source: int = 0) -> None:
        """Replace whatever of that source was not taken yet."""
        with self._changed:
            self._items[source] = item
            self._changed.notify()

    def take(self) -> T | None:
        """Wait for an item, of the source that was served longest ago; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            if self._closed:
                return None
            source = min(self._items, key=lambda one: self._served.index(one) if one in self._served else -1)
            self._served = [*(one for one in self._served if one != source), source]
            return self._items.pop(source)

    def close(self) -> None:
        """End every `take`, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
