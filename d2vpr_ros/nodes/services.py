"""The localizer's services."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_srvs.srv import Empty, SetBool, Trigger

from d2vpr_ros.errors import UserError
from d2vpr_ros.nodes.answering import Answering
from d2vpr_ros.nodes.blocking_service import BlockingService
from d2vpr_ros.nodes.outputs import Outputs

_RELOCALIZE_IMAGES = 40
_RELOCALIZE_TIMEOUT_S = 10.0


class Services:
    """From construction to `stop`.

    Attributes:
        enabled: whether images are to be answered.
    """

    def __init__(
        self,
        node: Node,
        answering: Answering,
        outputs: Outputs,
        belief_dropped: Callable[[], object],
        reload: Callable[[], str],
        image_topic: str,
    ) -> None:
        """
        Args:
            belief_dropped: called after that.
            reload: puts the map file as it is now in place of what is loaded, and says what that is.
            image_topic: resolved.
        """
        self.enabled = True
        self._node, self._answering, self._outputs = node, answering, outputs
        self._belief_dropped = belief_dropped
        self._reload_map, self._image_topic = reload, image_topic
        self._services = [
            node.create_service(SetBool, "~/enable", self._enable),
            node.create_service(Empty, "reinitialize_global_localization", self._reinitialize),
            # AMCL offers that one, too, and a call reaches one of two or both; this one is nobody else's.
            node.create_service(Empty, "~/reinitialize_global_localization", self._reinitialize),
        ]
        self._blocking = [
            BlockingService(node, Trigger, "relocalize", self._relocalize),
            BlockingService(node, Trigger, "reload_map", self._reload),
        ]

    def stop(self) -> None:
        """After the calls in hand."""
        for blocking in self._blocking:
            blocking.stop()
        for service in self._services:
            self._node.destroy_service(service)

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.enabled = bool(request.data)
        response.success, response.message = True, "enabled" if self.enabled else "disabled"
        return response

    def _reinitialize(self, request: Empty.Request, response: Empty.Response) -> Empty.Response:
        """The call that Nav2's behaviour tree makes when the robot is lost."""
        self._forget()
        return response

    def _relocalize(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forget, then wait for what the next images say."""
        self._forget()
        newest = self._answering.wait_until_localized(_RELOCALIZE_IMAGES, _RELOCALIZE_TIMEOUT_S)
        if newest is None:
            response.message = f"no image arrived within {_RELOCALIZE_TIMEOUT_S:.0f} s on {self._image_topic}"
        elif newest.pose is not None:
            x, y, z = newest.pose.position
            response.success, response.message = True, f"LOCALIZED at x {x:.2f} m, y {y:.2f} m, z {z:.2f} m"
            response.message += self._outputs.initial_pose.answer_request(newest)
        else:
            response.message = f"{newest.state.value}: {newest.reject_reason.value}"
        return response

    def _forget(self) -> None:
        self._answering.forget()
        self._belief_dropped()

    def _reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = True, self._reload_map()
        except UserError as error:
            response.success, response.message = False, f"the old map stays in use: {error}"
            self._node.get_logger().error(response.message)
        return response
