"""Running a node until it is told to stop, and leaving cleanly whichever way it was told."""

from __future__ import annotations

import sys
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node

from d2vpr_ros.errors import UserError

_THREADS = 3  # a service may wait for an answer while images keep coming in


def run(make: Callable[[], Node], start: Callable[[Node], None], stop: Callable[[Node], None]) -> int:
    """Make a node, start it, spin until SIGINT, SIGTERM or shutdown, stop it.

    Returns:
        The exit status: 0, or 2 with one line on stderr where the user has something to mend.
    """
    rclpy.init(args=sys.argv)
    node: Node | None = None
    try:
        node = make()
        start(node)
        executor = MultiThreadedExecutor(num_threads=_THREADS)
        executor.add_node(node)
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.5)  # spin() at times outlives SIGTERM
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except rclpy._rclpy_pybind11.RCLError:
        if rclpy.ok():  # after shutdown the wait set may be gone before the loop notices
            raise
    finally:
        if node is not None:
            stop(node)
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
