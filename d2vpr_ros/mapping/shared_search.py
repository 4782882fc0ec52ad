"""Search in a shared database that may be out of reach: then the robot goes on with its own map."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping.milvus import MilvusLost
from d2vpr_ros.mapping.milvus_search import MilvusPlaces
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Restriction
from d2vpr_ros.mapping.search import LocalSearch

RETRY_S = 10.0


class SharedSearch:
    """In Milvus; while that is out of reach, in memory.

    The image during which the connection breaks waits for it once, `milvus_search.TIMEOUT_S` at most. Connecting again
    happens on a thread of its own.
    """

    def __init__(
        self,
        local: LocalSearch,
        connect: Callable[[], MilvusPlaces],
        say: Callable[[str], object],
        retry_s: float = RETRY_S,
    ) -> None:
        """
        Args:
            connect: opens the collection; raises MilvusLost while Milvus does not answer.
            say: takes one line each time the connection is lost or found again; called from any thread.

        Raises:
            UserError: the collection is not there, or another map's.
        """
        self._local, self._connect, self._say, self._retry_s = local, connect, say, retry_s
        self._shared: MilvusPlaces | None = None
        self._loss = ""
        self._stopping = threading.Event()
        self._retrying: threading.Thread | None = None
        try:
            self._shared = connect()
        except MilvusLost as error:
            self._lose(str(error))

    @property
    def status(self) -> str:
        return "milvus" if self._shared is not None else f"local (milvus lost: {self._loss})"

    def nearest(
        self, descriptor: npt.NDArray[np.float32], k: int, restriction: Restriction = UNRESTRICTED
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """As `Search.nearest`."""
        if (shared := self._shared) is not None:
            try:
                return shared.nearest(descriptor, k, restriction)
            except MilvusLost as error:
                self._shared = None
                shared.close()
                self._lose(str(error))
        return self._local.nearest(descriptor, k, restriction)

    def close(self) -> None:
        """End the connection and what tries to restore it."""
        self._stopping.set()
        if self._retrying is not None:
            self._retrying.join()
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def _lose(self, reason: str) -> None:
        self._loss = reason
        self._say(f"Milvus does not answer ({reason}); the map in memory is searched until it answers again")
        self._retrying = threading.Thread(target=self._retry, name="milvus", daemon=True)
        self._retrying.start()

    def _retry(self) -> None:
        while not self._stopping.wait(self._retry_s):
            try:
                self._shared = self._connect()
            except MilvusLost as error:
                self._loss = str(error)
            except UserError as error:  # somebody has put another map there meanwhile
                self._loss = str(error)
                self._say(f"Milvus answers again, but is not used: {error}")
                return
            else:
                self._say("Milvus answers again and is used")
                return
