"""From a condition to the light in a scene: the colours of sun and sky and the camera's exposure (linear RGB)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2vpr_ros.geometry import Array
from d2vpr_ros.sim.conditions import Condition


@dataclass(frozen=True, eq=False)
class Light:
    """All (3,) linear RGB; `to_sun` is the unit direction towards the sun (or what stands for the moon at night)."""

    to_sun: Array
    sun: Array
    zenith: Array
    horizon: Array
    glow: Array
    exposure: Array


def _mix(a: Array, b: Array, t: float) -> Array:
    return a * (1 - t) + b * t


def light_of(condition: Condition) -> Light:
    """Sun and sky colours of a condition, and the exposure that suits them."""
    elevation = np.radians(condition.sun_elevation_deg)
    azimuth = np.radians(condition.sun_azimuth_deg)
    seen = max(elevation, np.radians(4.0))  # shadows at dusk stay finite
    to_sun = np.array([np.cos(azimuth) * np.cos(seen), np.sin(azimuth) * np.cos(seen), np.sin(seen)])
    day = float(np.clip((condition.sun_elevation_deg + 7.0) / 20.0, 0, 1)) ** 1.5
    path = 1.0 / max(float(np.sin(elevation)), 0.05)  # air masses
    clear = (1 - condition.cloud) ** 1.5 * np.clip((condition.sun_elevation_deg + 1.0) / 4.0, 0, 1)
    sun = 3.2 * clear * np.exp(-np.array([0.05, 0.12, 0.28]) * path)
    night_zenith, night_horizon = np.array([0.003, 0.004, 0.008]), np.array([0.012, 0.010, 0.010])
    zenith = _mix(np.array([0.12, 0.26, 0.62]), np.array([0.50, 0.53, 0.58]), condition.cloud)
    horizon = _mix(np.array([0.52, 0.64, 0.80]), np.array([0.66, 0.68, 0.71]), condition.cloud)
    low_sun = float(np.exp(-((condition.sun_elevation_deg / 9.0) ** 2)))
    glow = low_sun * (1 - 0.8 * condition.cloud) * np.array([0.9, 0.32, 0.08]) * max(day, 0.08)
    zenith, horizon = night_zenith + zenith * day, night_horizon + horizon * day + 0.15 * glow
    ambient = float((0.5 * zenith + 0.5 * horizon).mean())
    lit = ambient + 0.25 * float(sun.mean()) * max(float(to_sun[2]), 0.3) + (0.28 if condition.lamps else 0.0)
    exposure = 1.6 / (lit + 0.03) * 2.0**condition.exposure * np.array(condition.colour_cast)
    if condition.snow > 0.3:
        exposure = exposure * 0.75
    return Light(to_sun, sun, zenith, horizon, glow, exposure)
