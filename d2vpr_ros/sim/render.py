"""Pictures of a town, drawn by OpenGL without a display (moderngl on EGL; Mesa's llvmpipe needs no GPU).

    town = build_town(1000)                              # sim.town; what seeds are for: town.seed_purpose
    renderer = Renderer(320, 240)                        # one GL context, for any number of towns, one thread
    renderer.load(town, CONDITIONS["dusk"])              # or random_condition(rng), of sim.conditions
    for place in sample_places(town, rng, 100):          # sim.routes: T_map_base, heading along a street
        base = jitter(place, rng, 2.0, 1.5, 0.1)         # the same place from a little elsewhere
        rgb = renderer.render(base @ CAMERA_MOUNT)       # (240, 320, 3) uint8

A `load` of another condition of the same town is much cheaper than one of another town.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_OPTICAL_QUATERNION, Array, Pose
from d2vpr_ros.sim.conditions import Condition
from d2vpr_ros.sim.light import light_of
from d2vpr_ros.sim.scene import HALF_TOWN_M, Scene, fixed_scene, lamp_lights, moved_scene, sky_vertices
from d2vpr_ros.sim.shader import FRAGMENT, SHADOW_FRAGMENT, VERTEX
from d2vpr_ros.sim.textures import SIZE, SURFACES, TILE, TILES, facade_tiles, surfaces
from d2vpr_ros.sim.town import Town

# T_base_cameraOptical of the simulated robot: 0.2 m before its middle, 1.4 m up, level.
CAMERA_MOUNT = Pose.of(0.2, 0.0, 1.4, *FORWARD_OPTICAL_QUATERNION)
NEAR_M, FAR_M = 0.15, 420.0
SHADOW_SIZE = 2048
LAMPLIGHT_SIZE = 512
LAMP_HEIGHT_M = 5.4
LAYOUT = "3f 3f 2f 4f 4f 3f 3f"
INPUTS = ("position", "normal", "uv", "kind", "detail", "colour", "trim")
APT_LINE = "apt-get install libegl1 libgl1-mesa-dri"


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
        return moderngl.create_context(standalone=True, backend="egl", require=330)
    except Exception as error:  # moderngl raises plain Exception, glcontext ImportError or OSError
        reason = " ".join(str(error).split())
        raise UserError(f"the simulator cannot draw: no EGL with OpenGL 3.3 ({reason}); install it: {APT_LINE}") from error


def _clip_from_camera(width: int, height: int, focal: float) -> Array:
    """OpenGL projection of the optical frame; y stays downwards, so that the first row read back is the upper one."""
    a, b = (FAR_M + NEAR_M) / (FAR_M - NEAR_M), -2 * FAR_M * NEAR_M / (FAR_M - NEAR_M)
    return np.array(
        [[2 * focal / width, 0, 0, 0], [0, 2 * focal / height, 0, 0], [0, 0, a, b], [0, 0, 1, 0]], dtype=np.float64
    )


def _map_from(pose: Pose) -> Array:
    matrix = np.eye(4)
    matrix[:3, :3] = pose.rotation.as_matrix()
    matrix[:3, 3] = pose.position
    return matrix


def _bytes(matrix: Array) -> bytes:
    return np.ascontiguousarray(matrix.T, dtype="f4").tobytes()  # OpenGL stores columns


class Renderer:
    """Draws the pictures of a pinhole camera; the centre of the upper left pixel is (0, 0).

    Args:
        width, height: pixels.
        fov_deg: horizontal field of view, degrees.
        samples: of each pixel's edges, 1 or 4.

    Attributes:
        camera_matrix: (3, 3) float64 K, pixels.

    Raises:
        UserError: no EGL, OpenGL or moderngl on this machine; it says what to install.
    """

    def __init__(self, width: int, height: int, fov_deg: float = 80.0, samples: int = 4) -> None:
        self.width, self.height = width, height
        focal = width / 2 / np.tan(np.radians(fov_deg) / 2)
        self.camera_matrix = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
        self._clip_from_camera = _clip_from_camera(width, height, focal)
        self._screen = np.diag([width / 2 / focal, height / 2 / focal, 1.0])
        self._half_diagonal = float(np.arctan(np.hypot(width, height) / 2 / focal))
        gl = self._gl = open_context()
        self._picture = gl.framebuffer([gl.renderbuffer((width, height), 3)])
        self._canvas = gl.framebuffer(
            [gl.renderbuffer((width, height), 3, samples=samples if samples > 1 else 0)],
            gl.depth_renderbuffer((width, height), samples=samples if samples > 1 else 0),
        )
        self._program = gl.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
        self._shadow_program = gl.program(vertex_shader=VERTEX, fragment_shader=SHADOW_FRAGMENT)
        self._shadow_map = gl.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self._shadow_map.compare_func = "<="
        self._shadow_target = gl.framebuffer(depth_attachment=self._shadow_map)
        self._lamplight = gl.texture((LAMPLIGHT_SIZE, LAMPLIGHT_SIZE), 1, dtype="f2")
        self._surfaces = gl.texture_array((SIZE, SIZE, SURFACES), 2, surfaces().tobytes())
        self._tiles = gl.texture_array((TILE, TILE, TILES), 3, facade_tiles().tobytes())
        for texture in (self._surfaces, self._tiles):
            texture.build_mipmaps()
        self._tiles.repeat_x = self._tiles.repeat_y = False
        for unit, (name, texture) in enumerate(
            (
                ("surfaces", self._surfaces),
                ("tiles", self._tiles),
                ("lamplight", self._lamplight),
                ("shadow", self._shadow_map),
            )
        ):
            texture.use(unit)
            self._set(name, unit)
        self._shadow_program["surfaces"].value = 0
        self._sky = self._drawable(sky_vertices())
        self._fixed: tuple[Scene, tuple[Any, ...]] | None = None
        self._moved: tuple[Scene, tuple[Any, ...]] | None = None
        self._town: Town | None = None
        self._frame = 0
        gl.enable(gl.DEPTH_TEST)

    def _set(self, name: str, value: Any) -> None:
        if name in self._program:  # the compiler leaves out what has no effect
            self._program[name].value = value

    def _drawable(self, data: npt.NDArray[np.float32]) -> tuple[Any, ...]:
        """The vertex buffer and what draws it in colour and in the shadow map."""
        buffer = self._gl.buffer(np.ascontiguousarray(data).tobytes())
        arrays = []
        for program in (self._program, self._shadow_program):
            used = [n if n in program else None for n in INPUTS]
            layout = " ".join(
                part if name else f"{4 * int(part[0])}x" for part, name in zip(LAYOUT.split(), used, strict=True)
            )
            arrays.append(self._gl.vertex_array(program, [(buffer, layout, *[n for n in used if n])]))
        return (buffer, *arrays)

    def load(self, town: Town, condition: Condition) -> None:
        """Draw this town under this condition from now on."""
        if self._town is None or self._town != town:
            self._release(self._fixed)
            scene = fixed_scene(town)
            self._fixed = (scene, self._drawable(scene.data))
            self._load_lamplight(town)
            self._town = town
        self._release(self._moved)
        scene = moved_scene(town, condition.moved_objects)
        self._moved = (scene, self._drawable(scene.data)) if len(scene.data) else None
        light = light_of(condition)
        for name in ("to_sun", "sun", "zenith", "horizon", "glow", "exposure"):
            self._set(name, tuple(float(v) for v in getattr(light, name)))
        for name in ("cloud", "fog", "wetness", "rain", "snow", "snowfall", "lamps", "windows_lit", "leaves", "autumn"):
            self._set(name, float(getattr(condition, name)))
        self._set("noise", condition.noise / 255.0)
        self._set("half_town", HALF_TOWN_M)
        self._frame = 0
        self._draw_shadows(light.to_sun, condition.leaves, is_lit=bool(light.sun.max() > 0.02))

    def _release(self, drawn: tuple[Scene, tuple[Any, ...]] | None) -> None:
        if drawn:
            for thing in reversed(drawn[1]):
                thing.release()

    def _load_lamplight(self, town: Town) -> None:
        """What falls from the lamps onto each spot of the ground, 1 right below one."""
        light = np.zeros((LAMPLIGHT_SIZE, LAMPLIGHT_SIZE), np.float32)
        per_metre = LAMPLIGHT_SIZE / (2 * HALF_TOWN_M)
        reach = int(22 * per_metre)
        for x, y in lamp_lights(town):
            u, v = (x + HALF_TOWN_M) * per_metre, (y + HALF_TOWN_M) * per_metre
            rows = np.arange(max(0, int(v) - reach), min(LAMPLIGHT_SIZE, int(v) + reach))
            columns = np.arange(max(0, int(u) - reach), min(LAMPLIGHT_SIZE, int(u) + reach))
            squared = ((rows[:, None] + 0.5 - v) ** 2 + (columns[None] + 0.5 - u) ** 2) / per_metre**2
            light[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += (1 + squared / LAMP_HEIGHT_M**2) ** -1.5
        self._lamplight.write(light.astype(np.float16).tobytes())

    def _draw_shadows(self, to_sun: Array, leaves: float, is_lit: bool) -> None:
        """The town as the sun sees it, once a load."""
        side = np.cross([0.0, 0.0, 1.0], to_sun)
        side /= np.linalg.norm(side)
        over = np.cross(to_sun, side)
        assert self._fixed is not None
        corners = np.array([self._fixed[0].low[:, :2].clip(-230, 230).min(0), self._fixed[0].high[:, :2].clip(-230, 230).max(0)])
        half = float(np.abs(corners).max()) * 0.87 * np.sqrt(2)
        depth = 2 * half + 60
        clip_from_map = np.eye(4)
        clip_from_map[0, :3], clip_from_map[1, :3], clip_from_map[2, :3] = side / half, over / half, -to_sun / depth
        into_texture = np.array([[0.5, 0, 0, 0.5], [0, 0.5, 0, 0.5], [0, 0, 0.5, 0.5], [0, 0, 0, 1]])
        self._program["shadow_from_map"].write(_bytes(into_texture @ clip_from_map))
        self._shadow_target.use()
        self._shadow_target.clear(depth=1.0)
        if not is_lit:
            return
        self._shadow_program["clip_from_map"].write(_bytes(clip_from_map))
        self._shadow_program["leaves"].value = leaves
        for drawn in (self._fixed, self._moved):
            if drawn:
                drawn[1][2].render()

    def _in_sight(self, scene: Scene, eye: Array, ahead: Array) -> npt.NDArray[np.int64]:
        """The chunks that may be seen, near ones first."""
        middle, radius = (scene.low + scene.high) / 2, np.linalg.norm(scene.high - scene.low, axis=1) / 2
        toward = middle - eye
        distance = np.linalg.norm(toward, axis=1)
        angle = np.arccos(np.clip(toward @ ahead / np.maximum(distance, 1e-6), -1, 1))
        margin = np.arcsin(np.clip(radius / np.maximum(distance, 1e-6), 0, 1))
        seen = ((angle < self._half_diagonal + margin) | (distance < radius)) & (distance - radius < scene.reach)
        chosen = np.flatnonzero(seen)
        return chosen[np.argsort(distance[chosen])]

    def render(self, camera: Pose) -> npt.NDArray[np.uint8]:
        """The picture from a pose T_map_cameraOptical: (height, width, 3) uint8 RGB.

        Raises:
            RuntimeError: nothing was loaded.
        """
        if self._fixed is None:
            raise RuntimeError("Renderer.load comes before Renderer.render")
        map_from_camera = _map_from(camera)
        clip_from_map = self._clip_from_camera @ np.linalg.inv(map_from_camera)
        self._program["clip_from_map"].write(_bytes(clip_from_map))
        self._program["map_from_screen"].write(_bytes(map_from_camera[:3, :3] @ self._screen))
        ahead = map_from_camera[:3, 2]
        self._set("eye", tuple(map_from_camera[:3, 3]))
        self._set("ahead", tuple(ahead))
        self._frame += 1
        self._set("frame", float(self._frame * 0.6180339887 % 1.0))
        self._canvas.use()
        self._canvas.clear(depth=1.0)
        for drawn in (self._moved, self._fixed):
            if drawn:
                scene, (_, array, _) = drawn
                for chunk in self._in_sight(scene, map_from_camera[:3, 3], ahead):
                    array.render(vertices=int(scene.count[chunk]), first=int(scene.first[chunk]))
        self._sky[1].render()
        self._gl.copy_framebuffer(self._picture, self._canvas)
        pixels = self._picture.read(components=3, alignment=1)
        return np.frombuffer(pixels, np.uint8).reshape(self.height, self.width, 3)
