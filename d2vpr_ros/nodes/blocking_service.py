"""A service whose callback may wait, on a thread of its own.

A multi-threaded executor would do as well, but rclpy's polls while a callback runs; with Python's one lock that starves
the worker, for seconds at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node


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
        while not self._stopped:
            executor.spin_once(timeout_sec=0.2)
