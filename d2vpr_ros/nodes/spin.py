"""Running a node until it is told to stop, and leaving cleanly whichever way it was told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from d2vpr_ros.errors import UserError


class Startable(Protocol):
    """What a node of this package offers."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def destroy_node(self) -> None: ...


def run(make: Callable[[], Startable]) -> int:
    """Make a node, start it, spin until SIGINT, SIGTERM or shutdown, stop it.

    Returns:
        The exit status: 0, or 2 with one line on stderr where the user has something to mend.
    """
    try:
        rclpy.init(args=sys.argv)
    except rclpy._rclpy_pybind11.RCLError as error:
        reason = str(error).splitlines()[0].split(", at ")[0]
        return _mend(f"the ROS arguments cannot be read ({reason}); write them as --ros-args -p name:=value")
    node: Startable | None = None
    try:
        node = make()
        node.start()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.5)  # spin() at times outlives SIGTERM
    except UserError as error:
        return _mend(str(error))
    except ParameterException as error:
        return _mend(f"{error}; see config/localize.yaml for every parameter, its type and its bounds")
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except rclpy._rclpy_pybind11.RCLError:
        if rclpy.ok():  # after shutdown the wait set may be gone before the loop notices
            raise
    finally:
        if node is not None:
            node.stop()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _mend(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
