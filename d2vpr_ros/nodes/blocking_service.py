"""A service whose callback may wait, on a thread of its own.

A multi-threaded executor would do as well, but rclpy's polls while a callback runs; with Python's one lock that starves
the worker, for seconds at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

# rclpy's signal handler wakes executors one by one, on a thread of its own; one that is gone by its turn crashes the
# process. So those that a signal ended stay until the process does.
_ENDED_BY_SIGNAL: list[SingleThreadedExecutor] = []


class BlockingService:
    """Serves from construction to `stop`."""

    def __init__(self, node: Node, kind: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        """
        Args:
            name: of the service, under the node's own name.
        """
        path = f"{node.get_fully_qualified_name()}/{name}"
        self._node = Node(f"_{node.get_name()}_{name}", context=node.context, use_global_arguments=False)
        self._node.create_service(kind, path, callback)
        self._stopped = False
        self._thread = threading.Thread(target=self._spin, name=name)
        self._thread.start()

    def stop(self) -> None:
        """End after the call in hand."""
        self._stopped = True
        self._thread.join()
        self._node.destroy_node()

    def _spin(self) -> None:
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        try:
            while not self._stopped and self._node.context.ok():
                executor.spin_once(timeout_sec=0.2)
        except ExternalShutdownException:
            return
        except rclpy._rclpy_pybind11.RCLError:
            if self._node.context.ok():  # after shutdown the wait set may be gone before the loop notices
                raise
        finally:
            if not self._node.context.ok():
                _ENDED_BY_SIGNAL.append(executor)
