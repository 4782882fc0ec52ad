"""Running a node until it is told to stop, and leaving cleanly whichever way it was told."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from d2vpr_ros.errors import UserError

_NOTICES_S = 0.2  # longest time until a signal is noticed


class Startable(Protocol):
    """What a node of this package offers."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def destroy_node(self) -> None: ...


def run(make: Callable[[], Startable]) -> int:
    """Make a node, start it, spin until SIGINT, SIGTERM or shutdown, stop it.

    A second signal ends the process at once.

    Returns:
        The exit status: 0, or 2 with one line on stderr where the user has something to mend.
    """
    try:
        # Not rclpy's own signal handler: it invalidates the context while other threads still use it, and wakes their
        # executors after these may be gone, which at times ended in a crash.
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    except rclpy._rclpy_pybind11.RCLError as error:
        reason = str(error).splitlines()[0].split(", at ")[0]
        return _mend(f"the ROS arguments cannot be read ({reason}); write them as --ros-args -p name:=value")
    told_to_stop = _signals()
    node: Startable | None = None
    try:
        node = make()
        node.start()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while rclpy.ok() and not told_to_stop.is_set():
            executor.spin_once(timeout_sec=_NOTICES_S)
    except UserError as error:
        return _mend(str(error))
    except ParameterException as error:
        return _mend(f"{error}; see config/localize.yaml for every parameter, its type and its bounds")
    except ExternalShutdownException:
        return 0
    finally:
        if node is not None:
            node.stop()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _signals() -> threading.Event:
    """Set by SIGINT and SIGTERM."""
    told = threading.Event()

    def tell(number: int, frame: FrameType | None) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):  # launch sends the one first, then the other
            signal.signal(one, signal.SIG_DFL)
        told.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, tell)
    return told


def _mend(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
