"""A bounded hand-over from one thread to the next."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """First in, first out, never more than `size` items, so whoever is faster waits."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, wait: bool = True) -> bool:
        """Hand an item over, as soon as there is room; False if it was not: no room and no `wait`, or closed."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: len(self._items) < self._size or self._closed)
            if self._closed or len(self._items) >= self._size:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self, most: int) -> list[T]:
        """Wait for an item and take it with those behind it, at most so many; empty once closed and taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._changed.notify_all()
            return taken

    def close(self, discard: bool = False) -> None:
        """Nothing more comes in; what is inside can still be taken, unless it is to be thrown away."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()
