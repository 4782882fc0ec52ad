"""OpenGL without a display: the context, programs that take what they know, and vertex buffers drawn in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array
from d2vpr_ros.sim.mesh import triangles
from d2vpr_ros.sim.scene import Scene

INPUTS = (("position", 3), ("normal", 3), ("uv", 2), ("kind", 4), ("detail", 4), ("colour", 3), ("trim", 3))
APT_LINE = "apt-get install libegl1 libgl1 libgl1-mesa-dri"


def open_context() -> Any:
    """A moderngl context without a display.

    Raises:
        UserError: moderngl is not installed, or there is no EGL or OpenGL 3.3 to use.
    """
    try:
        import moderngl
    except ImportError as error:
        raise UserError("the simulator needs the Python package moderngl: pip install moderngl") from error
    try:
        egl: Any = "egl"  # moderngl's annotation of `backend` is not what it takes
        return moderngl.create_standalone_context(backend=egl, require=330)
    except Exception as error:  # moderngl raises plain Exception, glcontext ImportError or OSError
        reason = " ".join(str(error).split())
        raise UserError(
            f"the simulator cannot draw: no EGL with OpenGL 3.3 ({reason}); install it: {APT_LINE}"
        ) from error


class Program:
    """A GLSL program; numbers for uniforms that it was compiled without are ignored."""

    def __init__(self, gl: Any, vertex: str, fragment: str) -> None:
        self.gl = gl.program(vertex_shader=vertex, fragment_shader=fragment)

    def set(self, name: str, value: Any) -> None:
        """A float, an int, a vector, or a matrix (2-D array, row by row)."""
        if name not in self.gl:
            return
        if np.ndim(value) == 2:
            self.gl[name].write(np.ascontiguousarray(np.transpose(value), dtype="f4").tobytes())  # columns first
        elif np.ndim(value) == 1:
            self.gl[name].value = tuple(float(v) for v in value)
        else:
            self.gl[name].value = value


class Drawable:
    """A scene on the graphics side, drawn by any program."""

    def __init__(self, gl: Any, scene: Scene) -> None:
        self.scene = scene
        self._gl = gl
        self._vertices = gl.buffer(np.ascontiguousarray(scene.data).tobytes())
        self._triangles = gl.buffer(triangles(len(scene.data) // 4).tobytes())
        self._arrays: dict[Program, Any] = {}

    def draw(self, program: Program, chunks: npt.NDArray[np.int64] | None = None) -> None:
        """All of it, or some chunks in this order."""
        if program not in self._arrays:
            layout = " ".join(f"{n}f" if name in program.gl else f"{4 * n}x" for name, n in INPUTS)
            used = [name for name, _ in INPUTS if name in program.gl]
            self._arrays[program] = self._gl.vertex_array(
                program.gl, [(self._vertices, layout, *used)], self._triangles
            )
        array = self._arrays[program]
        if chunks is None:
            array.render()
            return
        for first, count in zip(self.scene.first[chunks].tolist(), self.scene.count[chunks].tolist(), strict=True):
            array.render(vertices=6 * count, first=6 * first)

    def in_sight(self, eye: Array, clip_from_map: Array) -> npt.NDArray[np.int64]:
        """The chunks whose box reaches into the view, near ones first, so that they hide the far ones early."""
        scene = self.scene
        planes = np.concatenate([clip_from_map[3] + clip_from_map[:3], clip_from_map[3] - clip_from_map[:3]])
        nearest_corner = np.where(planes[:, None, :3] > 0, scene.high, scene.low)  # the corner farthest inside
        inside = ((nearest_corner * planes[:, None, :3]).sum(axis=2) + planes[:, 3:] > 0).all(axis=0)
        distance = np.linalg.norm(np.clip(eye, scene.low, scene.high) - eye, axis=1)
        chosen = np.flatnonzero(inside & (distance < scene.reach))
        return chosen[np.lexsort((distance[chosen], scene.is_ground[chosen]))]

    def release(self) -> None:
        """Free the graphics side."""
        for thing in (*self._arrays.values(), self._vertices, self._triangles):
            thing.release()
