"""Declaring ROS parameters once: what they mean, their bounds, and what to do about a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.nodes.names import OF_EVERY_NODE, unknown

_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a decimal point",
    str: "text",
    list: "a list of numbers with decimal points",
}
_NAMES = "a list of names"


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: its default fixes its type (ROS 2 parameter types are strict)."""

    name: str
    default: bool | int | float | str | list[float] | list[str]
    description: str
    lowest: float | None = None
    highest: float | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        descriptor = ParameterDescriptor(description=self.description)
        if self.choices:
            descriptor.additional_constraints = "one of " + ", ".join(self.choices)
        if self.lowest is not None and self.highest is not None:
            if isinstance(self.default, int):
                bounds = IntegerRange(from_value=int(self.lowest), to_value=int(self.highest), step=1)
                descriptor.integer_range = [bounds]
            else:
                bounds = FloatingPointRange(from_value=self.lowest, to_value=self.highest, step=0.0)
                descriptor.floating_point_range = [bounds]
        return descriptor


def declare(node: Node, parameters: Sequence[Parameter]) -> None:
    """Declare all parameters.

    Raises:
        UserError: a value given from outside has the wrong type or lies out of bounds.
    """
    for parameter in parameters:
        try:
            node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
        except InvalidParameterTypeException:
            raise UserError(
                f"parameter '{parameter.name}' is {_given(node, parameter)}; expected {_kind(parameter.default)}, "
                f"for example -p {parameter.name}:={_written(parameter.default)}"
            ) from None
        except InvalidParameterValueException:
            raise UserError(
                f"parameter '{parameter.name}' is {_given(node, parameter)}; "
                f"expected {parameter.lowest} to {parameter.highest}"
            ) from None


def warn_of_unknown(node: Node) -> None:
    """Name what a node was given from outside and is no parameter of it; once all are declared."""
    declared = node.get_parameters_by_prefix("")
    for name, hint in unknown(node._parameter_overrides, declared).items():  # rclpy tells them by no other way
        node.get_logger().warning(f"unknown parameter '{name}' is ignored; {hint}")


def ask_before_set(node: Node, parameters: Sequence[Parameter], change: Callable[[Mapping[str, Any]], str]) -> None:
    """Have `ros2 param set` and its like check, apply or refuse what they set, once all parameters are declared.

    Args:
        change: takes new values by name, applies them, and returns what is to be known of that (may be empty);
            raises a UserError, which is the reason for the refusal.
    """
    by_name = {parameter.name: parameter for parameter in parameters}

    def set_them(given: Sequence[Any]) -> SetParametersResult:
        # Those of every node are rclpy's, and a parameter that is being declared was looked at where it came from.
        values = {
            one.name: one.value for one in given if one.name not in OF_EVERY_NODE and node.has_parameter(one.name)
        }
        try:
            for name in values.keys() & by_name.keys():
                check_choice(by_name[name], values[name])
            if values and (known := change(values)):
                node.get_logger().info(f"{', '.join(values)}: {known}")  # rclpy passes on no reason with a success
            return SetParametersResult(successful=True)
        except UserError as error:
            return SetParametersResult(successful=False, reason=str(error))

    node.add_on_set_parameters_callback(set_them)


def check_choice(parameter: Parameter, value: object) -> None:
    """
    Raises:
        UserError: the value is not among the choices.
    """
    if parameter.choices and value not in parameter.choices:
        raise UserError(f"parameter '{parameter.name}' is '{value}'; expected one of {', '.join(parameter.choices)}")


def _given(node: Node, parameter: Parameter) -> str:
    """What was given from outside for a parameter that could not be declared: any type and value can be this way."""
    anything = ParameterDescriptor(dynamic_typing=True)
    found = node.declare_parameter(parameter.name, parameter.default, anything).value
    return f"'{found}'" if isinstance(found, str) else str(found).lower() if isinstance(found, bool) else str(found)


def read_values(node: Node, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The parameters' present values by name.

    Raises:
        UserError: a value is not among the choices.
    """
    values: dict[str, Any] = {}
    for parameter in parameters:
        value = node.get_parameter(parameter.name).value
        check_choice(parameter, value)
        values[parameter.name] = value
    return values


def to_mount(numbers: Sequence[float], name: str = "camera_mount") -> Pose | None:
    """The parameter `camera_mount`, or another one like it, as a pose; [0.0], its default, is None.

    Raises:
        UserError: the numbers are no pose.
    """
    if list(numbers) == [0.0]:
        return None
    try:
        return Pose.of(*numbers)
    except (TypeError, ValueError):
        raise UserError(
            f"parameter '{name}' is {list(numbers)}; expected seven numbers [x, y, z, qx, qy, qz, qw], "
            "or leave it out to use the mount from tf2 or the map"
        ) from None


def _kind(default: object) -> str:
    return _NAMES if isinstance(default, list) and isinstance(default[0], str) else _KINDS[type(default)]


def _written(value: object) -> str:
    if _kind(value) == _NAMES:
        return "[front,left]"
    return str(value).lower() if isinstance(value, bool) else str(value) or "town.d2map"
