"""What a drive looks like apart from where it goes: light, weather, season, what was moved, and the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2vpr_ros.errors import UserError


@dataclass(frozen=True)
class Condition:
    """One state of the world and of the camera.

    Attributes:
        sun_elevation_deg, sun_azimuth_deg: azimuth counter-clockwise from x (east); below -6 degrees it is night.
        cloud: 0 clear sky with hard shadows .. 1 overcast without sun.
        fog: extinction, 1/m (0.03 leaves about 60 m of sight).
        wetness: 0 dry .. 1 mirroring puddles.
        rain, snowfall: 0..1, streaks and flakes in the air.
        snow: 0..1 cover of the ground, roofs and branches.
        lamps: street lamps lit, and head-lights on.
        windows_lit: share of lit windows.
        leaves: 0 bare .. 1 full crowns; autumn: 0 green .. 1 yellow and red.
        moved_objects: seed of where cars, bins and people are.
        exposure: stops, relative to an exposure that suits the light.
        noise: standard deviation of the picture noise, in 8-bit levels.
        colour_cast: factors on red, green and blue.
    """

    sun_elevation_deg: float = 50.0
    sun_azimuth_deg: float = -100.0
    cloud: float = 0.2
    fog: float = 0.0015
    wetness: float = 0.0
    rain: float = 0.0
    snow: float = 0.0
    snowfall: float = 0.0
    lamps: bool = False
    windows_lit: float = 0.0
    leaves: float = 1.0
    autumn: float = 0.0
    moved_objects: int = 0
    exposure: float = 0.0
    noise: float = 2.0
    colour_cast: tuple[float, float, float] = (1.0, 1.0, 1.0)


CONDITIONS: dict[str, Condition] = {
    "noon": Condition(),
    "morning": Condition(14, -15, 0.25, 0.004, moved_objects=1, colour_cast=(1.04, 1.0, 0.94)),
    "afternoon": Condition(28, 160, 0.35, 0.002, moved_objects=2, exposure=0.2),
    "dusk": Condition(1.5, 185, 0.5, 0.004, lamps=True, windows_lit=0.3, moved_objects=3, noise=4.0),
    "night": Condition(-20, 0, 0.3, 0.003, lamps=True, windows_lit=0.35, moved_objects=4, noise=7.0),
    "overcast": Condition(45, 60, 1.0, 0.004, moved_objects=5),
    "fog": Condition(30, 100, 1.0, 0.04, wetness=0.25, lamps=True, windows_lit=0.1, moved_objects=6),
    "rain": Condition(35, 30, 1.0, 0.009, wetness=1.0, rain=0.8, windows_lit=0.15, moved_objects=7, noise=3.0),
    "night_rain": Condition(
        -20, 0, 1.0, 0.008, wetness=1.0, rain=0.6, lamps=True, windows_lit=0.3, moved_objects=8, noise=7.0
    ),
    "snow": Condition(18, -130, 0.7, 0.006, snow=0.9, snowfall=0.3, leaves=0.0, moved_objects=9, windows_lit=0.05),
    "autumn": Condition(24, -60, 0.3, 0.004, wetness=0.2, leaves=0.7, autumn=1.0, moved_objects=10),
    "winter": Condition(16, -110, 0.3, 0.003, leaves=0.0, moved_objects=11, colour_cast=(0.97, 1.0, 1.05)),
}


def condition_named(name: str) -> Condition:
    """The condition of a name.

    Raises:
        UserError: there is none of that name; the known ones are listed.
    """
    if name not in CONDITIONS:
        raise UserError(f"condition {name!r} is not known; choose one of {', '.join(sorted(CONDITIONS))}")
    return CONDITIONS[name]


def random_condition(rng: np.random.Generator) -> Condition:
    """A condition for training: all of the above vary together, as they do outdoors."""
    hour = rng.choice(["day", "low_sun", "dusk", "night"], p=[0.45, 0.2, 0.15, 0.2])
    elevation = {
        "day": rng.uniform(20, 65),
        "low_sun": rng.uniform(5, 20),
        "dusk": rng.uniform(-5, 4),
        "night": rng.uniform(-30, -8),
    }[str(hour)]
    is_dark = hour in ("dusk", "night")
    weather = rng.choice(["clear", "overcast", "fog", "rain"], p=[0.45, 0.25, 0.1, 0.2])
    season = rng.choice(["summer", "autumn", "winter", "snow"], p=[0.4, 0.2, 0.2, 0.2])
    is_rain = weather == "rain" and season != "snow"
    cast = np.clip(rng.normal(1.0, 0.06, 3), 0.8, 1.2)
    return Condition(
        sun_elevation_deg=float(elevation),
        sun_azimuth_deg=float(rng.uniform(-180, 180)),
        cloud=float(rng.uniform(0.0, 0.6) if weather == "clear" else rng.uniform(0.8, 1.0)),
        fog=float(rng.uniform(0.015, 0.05) if weather == "fog" else rng.uniform(0.001, 0.008)),
        wetness=float(rng.uniform(0.6, 1.0) if is_rain else max(0.0, rng.uniform(-0.6, 0.4))),
        rain=float(rng.uniform(0.2, 1.0)) if is_rain else 0.0,
        snow=float(rng.uniform(0.4, 1.0)) if season == "snow" else 0.0,
        snowfall=float(max(0.0, rng.uniform(-0.8, 1.0))) if season == "snow" else 0.0,
        lamps=bool(is_dark or rng.random() < 0.1),
        windows_lit=float(rng.uniform(0.1, 0.5)) if is_dark else float(rng.uniform(0.0, 0.1)),
        leaves={"summer": 1.0, "autumn": float(rng.uniform(0.4, 0.9))}.get(str(season), 0.0),
        autumn=float(rng.uniform(0.5, 1.0)) if season == "autumn" else 0.0,
        moved_objects=int(rng.integers(1 << 31)),
        exposure=float(rng.normal(0.0, 0.45)),
        noise=float(rng.uniform(1.0, 9.0) if is_dark else rng.uniform(0.5, 5.0)),
        colour_cast=(float(cast[0]), float(cast[1]), float(cast[2])),
    )
