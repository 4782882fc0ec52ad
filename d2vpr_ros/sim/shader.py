"""The one shader of the simulator (GLSL 3.30): every surface, every light, every weather."""

from __future__ import annotations

from d2vpr_ros.sim.textures import SURFACE_METRES, SURFACES, TEXT_ROWS

# Materials, the first number of a vertex's `kind`.
PLAIN, FACADE, GROUND, DASHES, ZEBRA, SIGN, LEAF, TWIG, LAMP, CAR_GLASS, CAR_LIGHT, SKY = range(12)

VERTEX = """
#version 330
in vec3 position; in vec3 normal; in vec2 uv; in vec4 kind; in vec4 detail; in vec3 colour; in vec3 trim;
uniform mat4 clip_from_map;
out vec3 at; out vec2 st;
flat out vec3 up; flat out vec4 what; flat out vec4 more; flat out vec3 paint; flat out vec3 edge;
void main() {
    at = position; st = uv; up = normal; what = kind; more = detail; paint = colour; edge = trim;
    gl_Position = clip_from_map * vec4(position, 1.0);
    if (kind.x > 10.5) gl_Position = vec4(position.xy, 0.99999, 1.0);
}
"""

SHADOW_FRAGMENT = """
#version 330
in vec2 st; flat in vec4 what;
uniform sampler2DArray surfaces; uniform float leaves;
void main() {
    if (what.x > 5.5 && what.x < 7.5) {
        if (what.x < 6.5 && what.z > leaves) discard;
        if (texture(surfaces, vec3(st, what.y)).g < 0.5) discard;
    }
}
"""

_METRES = ", ".join(f"{1 / metres:.4f}" for metres in SURFACE_METRES)

FRAGMENT = (
    f"""
#version 330
in vec3 at; in vec2 st;
flat in vec3 up; flat in vec4 what; flat in vec4 more; flat in vec3 paint; flat in vec3 edge;
uniform sampler2DArray surfaces; uniform sampler2DArray tiles; uniform sampler2D lamplight;
uniform sampler2DShadow shadow;
uniform mat4 shadow_from_map; uniform mat3 map_from_screen; uniform vec3 eye; uniform vec3 ahead;
uniform vec3 to_sun, sun, zenith, horizon, glow, exposure;
uniform float cloud, fog, wetness, rain, snow, snowfall, lamps, windows_lit, leaves, autumn, noise, frame, half_town;
out vec3 picture;
const float per_metre[{SURFACES}] = float[]({_METRES});

float hash(vec3 p) {{
    p = fract(p * vec3(0.1031, 0.1130, 0.0973));
    p += dot(p, p.yzx + 33.33);
    return fract((p.x + p.y) * p.z);
}}

vec3 sky(vec3 d) {{
    float h = max(d.z, 0.0);
    vec3 c = mix(horizon, zenith, sqrt(h));
    float toward = max(dot(d, to_sun), 0.0);
    c += glow * toward * toward * exp(-5.0 * h) + sun * 0.06 * pow(toward, 12.0);
    return c;
}}
"""
    + f"""
void main() {{
    int m = int(what.x + 0.5);
    float layer = what.y;
    vec2 metres = m == {FACADE} ? st * more.xy : st;
    int surface = int(layer + 0.5);
    vec4 tex = texture(surfaces, vec3(metres * per_metre[surface], layer));
    vec2 dx = dFdx(st), dy = dFdy(st);
    vec3 light_up = up;
    vec3 view = at - eye;
    if (m == {SKY}) view = map_from_screen * vec3(st, 1.0);
    float far = length(view);
    vec3 dir = view / far;
    // Stains and patches of several metres: what makes one stretch of the same stuff differ from the next.
    vec2 broad = m == {SKY} ? dir.xy / (abs(dir.z) + 0.12) * 0.22 : at.xy * 0.021 + at.z * vec2(0.031, -0.047);
    float patches = texture(surfaces, vec3(broad, 0.0)).r - 0.5;
    vec3 c = paint * (tex.r * 2.0);
    c *= 1.0 + 1.2 * patches;
    vec3 shine = vec3(0.0);
    float mirror = 0.0;

    if (m == {FACADE}) {{
        vec2 cell = floor(st), in_cell = fract(st);
        float h = hash(vec3(cell, what.z * 91.0));
        float tile = more.z;
        float door = floor(what.z * 7.0 * what.w);
        bool is_shop = more.w > 7.5;
        if (cell.y < 0.5) {{
            float style = mod(more.w, 8.0);
            tile = mod(door, what.w) == cell.x ? 16.0 + style : is_shop ? 24.0 + style : more.z;
        }}
        vec3 t = textureGrad(tiles, vec3(in_cell, tile), dx, dy).rgb;
        float wall = clamp(1.0 - t.g - t.b, 0.0, 1.0);
        float grime = 0.72 + 0.28 * smoothstep(0.0, 0.7, st.y);
        vec3 behind = mix(vec3(0.03), mix(vec3(0.35, 0.33, 0.28), edge, 0.3), h * h * step(in_cell.y, 0.4 + h));
        behind = tile > 23.5 ? vec3(0.10) + vec3(1.4, 0.9, 0.7) * max(t.r - 0.5, 0.0) : behind;
        c = c * wall * (t.r * 2.0) * grime + edge * t.g * t.r * 2.0 + behind * t.b * t.r * 2.0;
        float facing = 1.0 - abs(dot(dir, up));
        mirror = t.b * (0.12 + 0.7 * facing * facing * facing);
        float lit = tile > 23.5 ? step(0.02, windows_lit) * step(fract(what.z * 13.0), 0.5 + windows_lit)
                                : step(h, windows_lit);
        vec3 warm = mix(vec3(1.0, 0.62, 0.28), vec3(0.85, 0.92, 1.0), step(0.8, fract(h * 7.0 + what.z)));
        shine = warm * lit * t.b * (0.25 + t.r) * (tile > 23.5 ? 0.9 : 0.45 + h);
    }} else if (m == {SIGN}) {{
        float ink = texture(surfaces, vec3(st.x, (st.y + more.x) / {TEXT_ROWS}.0, layer)).g;
        c = mix(paint, edge, ink);
        shine = c * 0.5 * lamps * step(0.5, what.z);
    }} else if (m == {LEAF}) {{
        if (what.z > leaves || tex.g < 0.45) discard;
        float far_tone = hash(vec3(what.z * 50.0, what.w * 30.0, 1.0));
        vec3 turned = mix(vec3(0.55, 0.32, 0.04), vec3(0.42, 0.10, 0.03), step(0.6, what.w));
        c = mix(paint, turned, autumn * step(far_tone, 0.4 + 0.6 * autumn)) * tex.r * 2.0 * more.x;
        light_up = normalize(up + vec3(0.0, 0.0, 0.8));
    }} else if (m == {TWIG}) {{
        if (tex.g < 0.4) discard;
    }} else if (m == {LAMP}) {{
        shine = lamps * vec3(1.0, 0.72, 0.38) * 4.0;
    }} else if (m == {CAR_GLASS}) {{
        c = vec3(0.03); mirror = 0.45;
    }} else if (m == {CAR_LIGHT}) {{
        shine = paint * lamps * 0.8;
    }} else if (m == {DASHES} || m == {ZEBRA}) {{
        float period = m == {DASHES} ? 6.0 : 1.1;
        float w = fwidth(st.x) / period + 0.01;
        float s = abs(fract(st.x / period) - 0.5) - 0.25;
        float paint_on = clamp(s / w + 0.5, 0.0, 1.0);
        paint_on = mix(paint_on, 0.5, clamp(w * 1.5 - 0.5, 0.0, 1.0)) * smoothstep(-0.22, 0.05, patches + tex.r - 0.5);
        c = mix(vec3(0.09) * tex.r * 2.0, vec3(0.62) * tex.r * 2.0, paint_on);
    }}

    float flat_up = clamp(up.z * 1.6 - 0.5, 0.0, 1.0);
    float is_ground = m == {GROUND} || m == {DASHES} || m == {ZEBRA} ? 1.0 : 0.0;
    float cover = m == {LEAF} ? 0.5 : flat_up;
    cover = snow * cover * smoothstep(0.42 - 0.6 * snow, 0.62, 0.5 + patches * 2.0 + (tex.r - 0.5) * 0.8 + 0.2 * cover);
    if (m == {TWIG}) cover = snow * 0.35 * tex.r;
    c = mix(c, vec3(0.78, 0.80, 0.84) * (0.85 + 0.3 * tex.r + 0.25 * patches), cover);
    shine *= 1.0 - cover;
    float puddle = is_ground * wetness * (1.0 - cover) * up.z;
    float pool = smoothstep(0.02, 0.10, patches + 0.3 * (wetness - 0.75));
    c *= 1.0 - 0.45 * wetness * (1.0 - cover) * (0.4 + 0.6 * flat_up);
    float grazing = pow(1.0 - abs(dir.z), 3.0);
    mirror = max(mirror, puddle * mix(0.15, 0.95, pool) * (0.08 + 0.8 * grazing));

    vec3 s = (shadow_from_map * vec4(at + up * 0.12, 1.0)).xyz;
    float bare = m == {SKY} ? 1.0 : texture(shadow, s);
    float direct = m == {LEAF} ? 0.35 + 0.5 * max(dot(light_up, to_sun), 0.0) : max(dot(light_up, to_sun), 0.0);
    float open = 0.55 + 0.45 * smoothstep(0.0, 14.0, at.z) + 0.25 * flat_up;
    vec3 ambient = mix(horizon, zenith, 0.5 + 0.5 * light_up.z) * open * (0.75 + 0.25 * light_up.z);
    vec3 lamp = texture(lamplight, (at.xy + up.xy * 1.2) / (2.0 * half_town) + 0.5).r * vec3(1.0, 0.68, 0.36);
    lamp *= lamps * exp(-pow(max(at.z - 4.5, 0.0) / 2.5, 2.0)) * (0.45 + 0.55 * abs(up.z));
    float beam = pow(max(dot(dir, ahead), 0.0), 14.0) * smoothstep(4.5, 0.5, at.z);
    vec3 head = lamps * vec3(0.9, 0.95, 1.0) * beam * 1.3 / (1.0 + far * far * 0.012) * (0.3 + 0.7 * abs(dot(dir, up)));
    vec3 lit = c * (sun * direct * bare + ambient + lamp + head) + shine;
    vec3 bounced = reflect(dir, up);
    vec3 seen = sky(bounced) * (0.35 + 0.65 * smoothstep(0.0, 0.5, bounced.z)) + lamp * 0.6;
    lit = mix(lit, seen, mirror);

    vec3 heaven = sky(dir);
    if (m == {SKY}) {{
        float veil = smoothstep(-0.05 - 0.25 * cloud, 0.25, patches * 2.0 + (cloud - 0.5) * 0.35);
        vec3 cloud_colour = mix(horizon, vec3(dot(horizon, vec3(0.333))), 0.7) * (1.15 - 1.3 * patches * (0.3 + cloud));
        lit = mix(heaven, cloud_colour + sun * 0.15, veil * (0.35 + 0.6 * cloud) * smoothstep(0.0, 0.15, dir.z));
        lit += sun * 4.0 * smoothstep(0.9990, 0.9996, dot(dir, to_sun)) * (1.0 - cloud);
        float bearing = atan(dir.y, dir.x) * 40.0;
        float house = floor(bearing);
        float skyline = 0.015 + 0.055 * hash(vec3(house, 3.0, 1.0)) * hash(vec3(floor(bearing * 0.2), 5.0, 2.0));
        lit = dir.z < skyline ? mix(vec3(0.12) * ambient, heaven, 0.45) : lit;
        far = dir.z < skyline + 0.02 ? 260.0 : 60.0 / (abs(dir.z) + 0.1);
    }}
    float through = exp(-far * fog);
    vec3 haze = mix(horizon, heaven, 0.4) + lamps * vec3(0.05, 0.035, 0.02) * min(1.0, fog * 30.0);
    lit = mix(haze, lit, through);

    if (rain + snowfall > 0.0) {{
        vec2 p = gl_FragCoord.xy;
        float drop = textureLod(surfaces, vec3((p.x + p.y * 0.08) * 0.021, p.y * 0.0013 + frame, 4.0), 0.0).r;
        float flake = textureLod(surfaces, vec3(p * 0.0035 + frame, 4.0), 0.0).r;
        lit += (haze + lamp * 0.2) * (0.5 * rain * smoothstep(0.60, 0.78, drop));
        lit = mix(lit, haze * 1.3 + 0.02, snowfall * smoothstep(0.70, 0.78, flake));
    }}
    vec2 q = map_from_screen[2].xy * 0.0 + gl_FragCoord.xy;
    vec3 shown = pow(1.0 - exp(-lit * exposure), vec3(0.4545));
    float n1 = hash(vec3(q, frame * 977.0)), n2 = hash(vec3(q.yx + 17.0, frame * 571.0));
    float n3 = hash(vec3(q + 91.0, frame * 313.0));
    picture = shown + noise * 1.7 * (vec3(n1, n2, n3) + vec3(n2, n3, n1) - 1.0);
}}
"""
)
