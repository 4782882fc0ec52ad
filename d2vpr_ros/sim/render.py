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

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import FORWARD_OPTICAL_QUATERNION, Array, Pose
from d2vpr_ros.sim.conditions import Condition
from d2vpr_ros.sim.gl import Drawable, Program, open_context
from d2vpr_ros.sim.layout import Town
from d2vpr_ros.sim.light import Light, light_of
from d2vpr_ros.sim.scene import HALF_TOWN_M, fixed_scene, lamp_lights, moved_scene
from d2vpr_ros.sim.shader import SHADOW_FRAGMENT, SKY_VERTEX, VERTEX, sky_fragment, surface_fragment
from d2vpr_ros.sim.textures import SIZE, SURFACES, TILE, TILES, facade_tiles, surfaces

# T_base_cameraOptical of the simulated robot: 0.2 m before its middle, 1.4 m up, looking ahead and 5 degrees upwards.
_UP_RAD = np.radians(5.0)
CAMERA_MOUNT = Pose.of(0.2, 0.0, 1.4, 0.0, -np.sin(_UP_RAD / 2), 0.0, np.cos(_UP_RAD / 2)) @ Pose.of(
    0.0, 0.0, 0.0, *FORWARD_OPTICAL_QUATERNION
)
NEAR_M, FAR_M = 0.15, 420.0
SHADOW_SIZE = 2048
SHADED_M = 260.0  # half the side of what the shadow map covers
LAMPLIGHT_SIZE = 512
LAMP_HEIGHT_M = 5.4


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


class Renderer:
    """Draws the pictures of a pinhole camera; the centre of the upper left pixel is (0, 0).

    Args:
        width, height: pixels.
        fov_deg: horizontal field of view, degrees.
        blur: of the lens, standard deviation in pixels, above 0.

    Attributes:
        camera_matrix: (3, 3) float64 K, pixels.

    Raises:
        UserError: no EGL, OpenGL or moderngl on this machine; it says what to install.
    """

    def __init__(self, width: int, height: int, fov_deg: float = 80.0, blur: float = 0.5) -> None:
        self.width, self.height, self.blur = width, height, blur
        focal = width / 2 / np.tan(np.radians(fov_deg) / 2)
        self.camera_matrix = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
        self._clip_from_camera = _clip_from_camera(width, height, focal)
        self._screen = np.diag([width / 2 / focal, height / 2 / focal, 1.0])
        gl = self._gl = open_context()
        self._canvas = gl.framebuffer([gl.renderbuffer((width, height), 3)], gl.depth_renderbuffer((width, height)))
        self._shadow_map = gl.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self._shadow_map.compare_func = "<="
        self._shadow_target = gl.framebuffer(depth_attachment=self._shadow_map)
        self._lamplight = gl.texture((LAMPLIGHT_SIZE, LAMPLIGHT_SIZE), 1, dtype="f2")
        self._surfaces = gl.texture_array((SIZE, SIZE, SURFACES), 2, surfaces().tobytes())
        self._tiles = gl.texture_array((TILE, TILE, TILES), 3, facade_tiles().tobytes())
        for texture in (self._surfaces, self._tiles):
            texture.build_mipmaps()
            texture.filter = (gl.LINEAR_MIPMAP_NEAREST, gl.LINEAR)  # llvmpipe: half the cost of the next better one
        self._tiles.repeat_x = self._tiles.repeat_y = False
        self._textures = {
            "surfaces": self._surfaces,
            "tiles": self._tiles,
            "lamplight": self._lamplight,
            "shadow": self._shadow_map,
        }
        for unit, texture in enumerate(self._textures.values()):
            texture.use(unit)
        self._shadows = Program(gl, VERTEX, SHADOW_FRAGMENT)
        self._shadows.set("surfaces", 0)
        self._programs: dict[frozenset[str], tuple[Program, Program]] = {}
        self._corners = gl.buffer(np.array([-1, -1, 1, -1, -1, 1, 1, 1], "f4").tobytes())
        self._sky_arrays: dict[Program, Any] = {}
        self._program: tuple[Program, Program] | None = None  # surfaces, sky
        self._fixed: Drawable | None = None
        self._moved: Drawable | None = None
        self._town: Town | None = None
        self._frame = 0
        gl.enable(gl.DEPTH_TEST)

    def _programs_for(self, condition: Condition, light: Light) -> tuple[Program, Program]:
        """The programs for surfaces and sky with what this condition needs."""
        needed = {
            "SUN": bool(light.sun.max() > 0.02),
            "LAMPS": condition.lamps,
            "WET": condition.wetness > 0,
            "SNOW": condition.snow > 0,
            "FALLING": condition.rain + condition.snowfall > 0,
        }
        features = frozenset(name for name, is_needed in needed.items() if is_needed)
        if features not in self._programs:
            surface = Program(self._gl, VERTEX, surface_fragment(features))
            sky = Program(self._gl, SKY_VERTEX, sky_fragment(features))
            for program in (surface, sky):
                for unit, name in enumerate(self._textures):
                    program.set(name, unit)
                program.set("half_town", HALF_TOWN_M)
            self._programs[features] = (surface, sky)
        return self._programs[features]

    def load(self, town: Town, condition: Condition) -> None:
        """Draw this town under this condition from now on."""
        with self._gl:  # another renderer's context may be the current one
            if self._town is None or self._town != town:
                if self._fixed:
                    self._fixed.release()
                self._fixed = Drawable(self._gl, fixed_scene(town))
                self._load_lamplight(town)
                self._town = town
            if self._moved:
                self._moved.release()
            self._moved = Drawable(self._gl, moved_scene(town, condition.moved_objects))
            light = light_of(condition)
            self._program = self._programs_for(condition, light)
            for program in self._program:
                for name in ("to_sun", "sun", "zenith", "horizon", "glow", "exposure"):
                    program.set(name, getattr(light, name))
                for name in ("cloud", "fog", "wetness", "rain", "snow", "snowfall", "windows_lit", "leaves", "autumn"):
                    program.set(name, getattr(condition, name))
                program.set("lamps", float(condition.lamps))
                program.set("noise", condition.noise / 255.0)
            self._frame = 0
            if light.sun.max() > 0.02:
                self._draw_shadows(light.to_sun, condition.leaves)

    def close(self) -> None:
        """Free the context and all it holds; the renderer draws no more."""
        self._gl.release()

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

    def _draw_shadows(self, to_sun: Array, leaves: float) -> None:
        """The town as the sun sees it, once a load."""
        assert self._fixed and self._moved and self._program
        side = np.cross([0.0, 0.0, 1.0], to_sun)
        side /= np.linalg.norm(side)
        over = np.cross(to_sun, side)
        depth = 2 * SHADED_M + 60
        clip_from_map = np.eye(4)
        clip_from_map[0, :3], clip_from_map[1, :3] = side / SHADED_M, over / SHADED_M
        clip_from_map[2, :3] = -to_sun / depth
        into_texture = np.array([[0.5, 0, 0, 0.5], [0, 0.5, 0, 0.5], [0, 0, 0.5, 0.5], [0, 0, 0, 1]])
        self._program[0].set("shadow_from_map", into_texture @ clip_from_map)
        self._shadows.set("clip_from_map", clip_from_map)
        self._shadows.set("leaves", leaves)
        self._shadow_target.use()
        self._shadow_target.clear(depth=1.0)
        for drawable in (self._fixed, self._moved):
            drawable.draw(self._shadows)

    def render(self, camera: Pose) -> npt.NDArray[np.uint8]:
        """The picture from a pose T_map_cameraOptical: (height, width, 3) uint8 RGB.

        Raises:
            RuntimeError: nothing was loaded.
        """
        if not (self._fixed and self._moved and self._program):
            raise RuntimeError("Renderer.load comes before Renderer.render")
        with self._gl:
            pixels = self._draw(camera, *self._program)
        picture = np.frombuffer(pixels, np.uint8).reshape(self.height, self.width, 3)
        return cv2.GaussianBlur(picture, (3, 3), self.blur).astype(np.uint8, copy=False)

    def _draw(self, camera: Pose, surface: Program, sky: Program) -> bytes:
        map_from_camera = _map_from(camera)
        clip_from_map = self._clip_from_camera @ np.linalg.inv(map_from_camera)
        eye = map_from_camera[:3, 3]
        self._frame += 1
        for program in (surface, sky):
            program.set("frame", self._frame * 0.6180339887 % 1.0)
        surface.set("clip_from_map", clip_from_map)
        surface.set("eye", eye)
        surface.set("ahead", map_from_camera[:3, 2])
        sky.set("map_from_screen", map_from_camera[:3, :3] @ self._screen)
        self._canvas.use()
        self._canvas.clear(depth=1.0)
        for drawable in filter(None, (self._moved, self._fixed)):
            drawable.draw(surface, drawable.in_sight(eye, clip_from_map))
        if sky not in self._sky_arrays:
            self._sky_arrays[sky] = self._gl.vertex_array(sky.gl, [(self._corners, "2f", "corner")])
        self._sky_arrays[sky].render(self._gl.TRIANGLE_STRIP)
        return bytes(self._canvas.read(components=3, alignment=1))
