"""The one shader of the simulator (GLSL 3.30): every surface, every light, every weather.

llvmpipe runs both sides of every branch, so what a condition has no use for (lamps by day, puddles in the dry) is
compiled out: `fragment(features)`.
"""

from __future__ import annotations

from d2vpr_ros.sim.textures import SURFACE_METRES, SURFACES, TEXT_ROWS

# Materials, the first number of a vertex's `kind`.
PLAIN, FACADE, GROUND, DASHES, ZEBRA, SIGN, LEAF, TWIG, LAMP, CAR_GLASS, CAR_LIGHT = range(11)
MATERIALS = ("PLAIN", "FACADE", "GROUND", "DASHES", "ZEBRA", "SIGN", "LEAF", "TWIG", "LAMP", "CAR_GLASS", "CAR_LIGHT")
FEATURES = ("SUN", "LAMPS", "WET", "SNOW", "FALLING")

_METRES = ", ".join(f"{1 / metres:.4f}" for metres in SURFACE_METRES)

VERTEX = """
#version 330
in vec3 position; in vec3 normal; in vec2 uv; in vec4 kind; in vec4 detail; in vec3 colour; in vec3 trim;
uniform mat4 clip_from_map;
out vec3 at; out vec2 st;
flat out vec3 up; flat out vec4 what; flat out vec4 more; flat out vec3 paint; flat out vec3 edge;
flat out float per_metre;  // repetitions of the surface
const float repetitions[SURFACES] = float[](REPETITIONS);
void main() {
    per_metre = repetitions[int(kind.y + 0.5)];
    at = position; st = uv; up = normal; what = kind; more = detail; paint = colour; edge = trim;
    gl_Position = clip_from_map * vec4(position, 1.0);
}
""".replace("SURFACES", str(SURFACES)).replace("REPETITIONS", _METRES)

SHADOW_FRAGMENT = """
#version 330
in vec2 st; flat in vec4 what;
uniform sampler2DArray surfaces; uniform float leaves;
void main() {
    if (what.x > 5.5 && what.x < 7.5) {
        if (what.x < 6.5 && what.z > leaves) discard;
        if (texture(surfaces, vec3(st, what.y)).g < 0.45) discard;
    }
}
"""

SKY_VERTEX = """
#version 330
in vec2 corner;
out vec2 st;
void main() { st = corner; gl_Position = vec4(corner, 0.999999, 1.0); }
"""

_COMMON = """
uniform sampler2DArray surfaces;
uniform vec3 to_sun, sun, zenith, horizon, glow, exposure;
uniform float cloud, fog, rain, snowfall, lamps, noise, frame;
out vec3 picture;

float hash(vec2 p) {
    vec3 q = fract(p.xyx * vec3(0.1031, 0.1030, 0.0973));
    q += dot(q, q.yzx + 33.33);
    return fract((q.x + q.y) * q.z);
}

vec3 sky(vec3 d) {
    float h = max(d.z, 0.0);
    vec3 c = mix(horizon, zenith, sqrt(h));
#ifdef SUN
    float t = max(dot(d, to_sun), 0.0);
    float t4 = t * t * t * t;
    c += glow * t * t * (1.0 - h) * (1.0 - h) + sun * 0.06 * t4 * t4 * t4;
#endif
    return c;
}

// From light to the picture: fog, what falls, the film's curve, noise.
vec3 shown(vec3 lit, vec3 haze, float far) {
    lit = mix(haze, lit, exp2(-1.4427 * far * fog));
#ifdef FALLING
    vec2 p = gl_FragCoord.xy;
    float drop = textureLod(surfaces, vec3((p.x + p.y * 0.08) * 0.021, p.y * 0.0013 + frame, 4.0), 0.0).r;
    float flake = textureLod(surfaces, vec3(p * 0.0035 + frame, 4.0), 0.0).r;
    lit += haze * (0.5 * rain * smoothstep(0.60, 0.78, drop));
    lit = mix(lit, haze * 1.3 + 0.02, snowfall * smoothstep(0.70, 0.78, flake));
#endif
    vec3 film = 1.0 - exp2(-lit * exposure);
    film = film * (1.12 - 0.12 * film);
    vec3 n = fract(hash(gl_FragCoord.xy + frame * 977.0) * vec3(1.0, 61.7, 653.3));
    return sqrt(film) + noise * 2.0 * (n + n.yzx - 1.0);
}
"""

_SKY_MAIN = """
in vec2 st;
uniform mat3 map_from_screen;
void main() {
    vec3 dir = normalize(map_from_screen * vec3(st, 1.0));
    vec3 heaven = sky(dir);
    float patches = texture(surfaces, vec3(dir.xy / (abs(dir.z) + 0.12) * 0.22, 0.0)).r - 0.5;
    float veil = smoothstep(-0.05 - 0.25 * cloud, 0.25, patches * 2.0 + (cloud - 0.5) * 0.35);
    vec3 cloud_colour = mix(horizon, vec3(dot(horizon, vec3(0.333))), 0.7) * (1.15 - 1.3 * patches * (0.3 + cloud));
    vec3 lit = mix(heaven, cloud_colour + sun * 0.15, veil * (0.35 + 0.6 * cloud) * smoothstep(0.0, 0.15, dir.z));
    lit += sun * 4.0 * smoothstep(0.9990, 0.9996, dot(dir, to_sun)) * (1.0 - cloud);
    float bearing = atan(dir.y, dir.x) * 40.0;
    float skyline = 0.01 + 0.06 * hash(vec2(floor(bearing), 3.0)) * hash(vec2(floor(bearing * 0.2), 5.0));
    lit = dir.z < skyline ? mix(vec3(0.10) * horizon, heaven, 0.45) : lit;
    float far = dir.z < skyline + 0.02 ? 260.0 : 60.0 / (abs(dir.z) + 0.1);
    picture = shown(lit, horizon, far);
}
"""

_SURFACE_MAIN = """
in vec3 at; in vec2 st;
flat in vec3 up; flat in vec4 what; flat in vec4 more; flat in vec3 paint; flat in vec3 edge;
flat in float per_metre;
uniform sampler2DArray tiles; uniform sampler2D lamplight; uniform sampler2DShadow shadow;
uniform mat4 shadow_from_map; uniform vec3 eye; uniform vec3 ahead;
uniform float wetness, snow, windows_lit, leaves, autumn, half_town;

void main() {
    int m = int(what.x + 0.5);
    vec2 metres = m == FACADE ? st * more.xy : m == SIGN ? vec2(st.x, (st.y + more.x) / TEXT_ROWS) : st;
    vec2 tex = texture(surfaces, vec3(metres * per_metre, what.y)).rg;
    if ((m == LEAF || m == TWIG) && tex.g < 0.45) discard;
    if (m == LEAF && what.z > leaves) discard;
    vec2 dx = dFdx(st), dy = dFdy(st);
    vec3 view = at - eye;
    float far = length(view);
    vec3 dir = view / far;
    // Stains and patches of several metres: what makes one stretch of the same stuff differ from the next.
    float patches = texture(surfaces, vec3(at.xy * 0.021 + at.z * vec2(0.031, -0.047), 0.0)).r - 0.5;
    vec3 c = paint * (tex.r * (2.0 + 2.4 * patches * tex.g));
    vec3 shine = vec3(0.0);
    vec3 light_up = up;
    float mirror = 0.0;

    if (m == FACADE) {
        vec2 cell = floor(st);
        float h = hash(cell * 7.3 + what.z * 491.0);
        bool is_ground_floor = cell.y < 0.5;
        bool is_shop = is_ground_floor && more.w > 7.5;
        float style = is_shop ? more.w - 8.0 : more.w;
        bool is_door = is_ground_floor && floor(what.z * what.w) == cell.x;
        float tile = is_door ? 16.0 + style : is_shop ? 24.0 + style : more.z;
        vec3 t = textureGrad(tiles, vec3(st - cell, tile), dx, dy).rgb;
        float wall = clamp(1.0 - t.g - t.b, 0.0, 1.0);
        vec3 behind = mix(vec3(0.03), mix(vec3(0.35, 0.33, 0.28), edge, 0.3), h * h * step(st.y - cell.y, 0.4 + h));
        behind = tile > 23.5 ? vec3(0.10) + vec3(1.4, 0.9, 0.7) * max(t.r - 0.5, 0.0) : behind;
        c = (c * wall * (0.75 + 0.25 * min(st.y, 1.0)) + edge * t.g + behind * t.b) * t.r * 2.0;
        float facing = 1.0 - abs(dot(dir, up));
        mirror = t.b * (0.12 + 0.7 * facing * facing * facing);
        float lit = tile > 23.5 ? step(0.02, windows_lit) * step(fract(what.z * 13.0), 0.5 + windows_lit)
                                : step(h, windows_lit);
        vec3 warm = fract(h * 7.0 + what.z) > 0.8 ? vec3(0.85, 0.92, 1.0) : vec3(1.0, 0.62, 0.28);
        shine = warm * (lit * t.b * (0.25 + t.r) * (tile > 23.5 ? 0.9 : 0.45 + h));
    }
    if (m == SIGN) {
        c = mix(paint, edge, tex.g);
        shine = c * 0.5 * lamps * step(0.5, what.z);
    }
    if (m == LEAF) {
        vec3 turned = fract(what.w * 7.0) > 0.6 ? vec3(0.42, 0.10, 0.03) : vec3(0.55, 0.32, 0.04);
        float is_turned = autumn * step(fract(what.z * 7.7 + what.w * 3.0), 0.4 + 0.6 * autumn);
        c = mix(paint, turned, is_turned) * tex.r * 2.0 * more.x;
        light_up = vec3(0.0, 0.0, 1.0);
    }
    if (m == DASHES || m == ZEBRA) {
        float period = m == DASHES ? 6.0 : 1.1;
        float w = (abs(dx.x) + abs(dy.x)) / period + 0.01;
        float s = abs(fract(st.x / period) - 0.5) - 0.25;
        float painted = mix(clamp(s / w + 0.5, 0.0, 1.0), 0.5, clamp(w * 1.5 - 0.5, 0.0, 1.0));
        c = vec3(mix(0.18, 1.24, painted * smoothstep(-0.22, 0.05, patches + tex.r - 0.5)) * tex.r);
    }
    if (m == CAR_GLASS) { c = vec3(0.03); mirror = 0.45; }
    if (m == LAMP) shine = lamps * vec3(4.0, 2.9, 1.5);
    if (m == CAR_LIGHT) shine = paint * lamps * 0.8;

    float flat_up = clamp(up.z * 1.6 - 0.5, 0.0, 1.0);
#ifdef SNOW
    float cover = m == LEAF ? 0.5 : flat_up;
    cover = snow * cover * smoothstep(0.42 - 0.6 * snow, 0.62, 0.5 + patches * 2.0 + (tex.r - 0.5) * 0.8 + 0.2 * cover);
    if (m == TWIG) cover = snow * 0.35 * tex.r;
    c = mix(c, vec3(0.78, 0.80, 0.84) * (0.85 + 0.3 * tex.r + 0.25 * patches), cover);
    shine *= 1.0 - cover;
#else
    const float cover = 0.0;
#endif
    vec3 ambient = mix(horizon, zenith, 0.5 + 0.5 * light_up.z);
    ambient *= (0.55 + 0.45 * min(at.z * 0.07, 1.0) + 0.25 * flat_up) * (0.75 + 0.25 * light_up.z);
    vec3 light = ambient;
#ifdef SUN
    float direct = m == LEAF ? 0.6 : max(dot(light_up, to_sun), 0.0);
    light += sun * (direct * texture(shadow, (shadow_from_map * vec4(at + up * 0.12, 1.0)).xyz));
#endif
    // Walls are upright and the ground is level: what they mirror is as high above the horizon as they are below it.
    vec3 seen = mix(horizon, zenith, sqrt(abs(dir.z))) * (0.35 + 0.65 * min(abs(dir.z) * 2.0, 1.0));
#ifdef LAMPS
    vec3 lamp = texture(lamplight, (at.xy + up.xy * 1.2) / (2.0 * half_town) + 0.5).r * vec3(1.0, 0.68, 0.36);
    float above = max(at.z - 4.5, 0.0);
    lamp *= lamps / (1.0 + above * above * 0.4) * (0.45 + 0.55 * abs(up.z));
    float beam = max(dot(dir, ahead), 0.0);
    beam *= beam; beam *= beam; beam *= beam * smoothstep(4.5, 0.5, at.z);
    light += lamp;
    light += lamps * vec3(1.2, 1.25, 1.3) * (beam * (0.3 + 0.7 * abs(dot(dir, up))) / (1.0 + far * far * 0.012));
    seen += lamp * 0.25;
#endif
#ifdef WET
    float puddle = m == GROUND || m == DASHES || m == ZEBRA ? wetness * (1.0 - cover) * up.z : 0.0;
    float pool = smoothstep(0.02, 0.10, patches + 0.3 * (wetness - 0.75));
    c *= 1.0 - 0.45 * wetness * (1.0 - cover) * (0.4 + 0.6 * flat_up);
    float grazing = 1.0 - abs(dir.z);
    mirror = max(mirror, puddle * mix(0.15, 0.95, pool) * (0.08 + 0.5 * grazing * grazing * grazing));
#endif
    vec3 lit = mix(c * light + shine, seen, mirror);
    vec3 haze = mix(horizon, zenith, 0.15);
#ifdef LAMPS
    haze += lamps * vec3(0.05, 0.035, 0.02) * min(1.0, fog * 30.0);
#endif
    picture = shown(lit, haze, far);
}
"""


def _head(features: frozenset[str]) -> str:
    return "#version 330\n" + "".join(f"#define {name}\n" for name in sorted(features))


def surface_fragment(features: frozenset[str]) -> str:
    """The fragment shader of everything but the sky, with some of FEATURES."""
    numbers = "".join(f"#define {name} {k}\n" for k, name in enumerate(MATERIALS))
    return _head(features) + numbers + _COMMON + _SURFACE_MAIN.replace("TEXT_ROWS", f"{TEXT_ROWS}.0")


def sky_fragment(features: frozenset[str]) -> str:
    """The fragment shader of the sky."""
    return _head(features) + _COMMON + _SKY_MAIN
