"""What the sensors of the simulated robot make of the way it really went: odometry that drifts, SLAM, GPS.

A way is (N,) seconds and (N, 3) x, y, yaw: metres and radians in the frame `map`, yaw unwrapped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Array, Pose

ORIGIN = LocalFrame(48.7758, 9.1829, 245.0)  # where the middle of every town lies

SPEED_SCALE = 0.01  # deviation of a drive's wheel scale
SPEED_NOISE = 0.03  # m/s, each reading
YAW_RATE_BIAS = 0.0008  # rad/s, deviation of a drive's gyro bias
YAW_RATE_NOISE = 0.004  # rad/s, each reading

SLAM_SIGMA_M = 0.1  # root mean square of the horizontal error
SLAM_SIGMA_RAD = 0.01
SLAM_MEMORY_S = 3.0  # SLAM errs smoothly: over this time its error is forgotten

GPS_SIGMA_M = 1.5  # of each horizontal axis
GPS_MEMORY_S = 20.0


@dataclass(frozen=True, eq=False)
class OdometryReading:
    """T_odom_base, the twist (vx, vy, vz, wx, wy, wz) in the base frame, and the (6, 6) covariance of the pose."""

    pose: Pose
    twist: tuple[float, float, float, float, float, float]
    covariance: Array


def smooth_noise(rng: np.random.Generator, times: Array, sigma: float, memory_s: float) -> Array:
    """(N,) first-order Gauss-Markov noise of a standard deviation, forgotten over `memory_s` seconds."""
    white = rng.standard_normal(len(times)) * sigma
    kept = np.exp(-np.diff(times, prepend=times[0]) / memory_s)
    noise = white.copy()
    for k in range(1, len(times)):
        noise[k] = kept[k] * noise[k - 1] + np.sqrt(1 - kept[k] ** 2) * white[k]
    return noise


def odometry(rng: np.random.Generator, times: Array, way: Array) -> list[OdometryReading]:
    """Wheel and gyro readings, integrated from the origin of `odom`; the error grows with way and time."""
    step = np.diff(way, axis=0)
    interval = np.diff(times)
    true_speed = np.hypot(step[:, 0], step[:, 1]) / interval
    speed = true_speed * (1 + SPEED_SCALE * rng.standard_normal()) + SPEED_NOISE * rng.standard_normal(len(step))
    yaw_rate = (
        step[:, 2] / interval + YAW_RATE_BIAS * rng.standard_normal() + YAW_RATE_NOISE * rng.standard_normal(len(step))
    )
    yaw = np.concatenate([[0.0], np.cumsum(yaw_rate * interval)])
    middle = (yaw[1:] + yaw[:-1]) / 2
    x = np.concatenate([[0.0], np.cumsum(speed * interval * np.cos(middle))])
    y = np.concatenate([[0.0], np.cumsum(speed * interval * np.sin(middle))])
    travelled = np.concatenate([[0.0], np.cumsum(true_speed * interval)])
    readings = []
    for k in range(len(times)):
        yaw_sigma = 0.01 + YAW_RATE_BIAS * (times[k] - times[0]) + 2e-4 * np.sqrt(travelled[k])
        across = 0.05 + SPEED_SCALE * travelled[k] + 0.5 * travelled[k] * yaw_sigma
        covariance = np.diag([across**2, across**2, 1e-4, 1e-4, 1e-4, yaw_sigma**2])
        now = max(0, k - 1)
        twist = (float(speed[now]), 0.0, 0.0, 0.0, 0.0, float(yaw_rate[now]))
        readings.append(OdometryReading(Pose.planar(float(x[k]), float(y[k]), float(yaw[k])), twist, covariance))
    return readings


def slam_poses(rng: np.random.Generator, times: Array, way: Array) -> list[Pose]:
    """T_map_base as a SLAM system would have it: the truth with smooth errors of SLAM_SIGMA_M."""
    per_axis = SLAM_SIGMA_M / np.sqrt(2)
    dx, dy = (smooth_noise(rng, times, per_axis, SLAM_MEMORY_S) for _ in range(2))
    turn = smooth_noise(rng, times, SLAM_SIGMA_RAD, SLAM_MEMORY_S)
    return poses(way + np.stack([dx, dy, turn], axis=1))


def fixes(rng: np.random.Generator, times: Array, way: Array) -> Array:
    """(N, 3) latitude, longitude (degrees), altitude (metres) with slowly wandering errors of GPS_SIGMA_M."""
    enu = np.stack([way[:, 0], way[:, 1], np.zeros(len(way))], axis=1)
    for axis, sigma in enumerate((GPS_SIGMA_M, GPS_SIGMA_M, 2 * GPS_SIGMA_M)):
        enu[:, axis] += smooth_noise(rng, times, sigma, GPS_MEMORY_S)
    return ORIGIN.to_geo(enu)


def poses(way: Array) -> list[Pose]:
    """(N, 3) x, y, yaw as poses on the ground."""
    return [Pose.planar(float(x), float(y), float(yaw)) for x, y, yaw in way]
