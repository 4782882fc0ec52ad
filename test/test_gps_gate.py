"""What a GPS fix leaves of a map to be searched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.gps import GpsFix, GpsGate, heeded, read_fix
from d2vpr_ros.mapping.earth import Earth
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Region, Restriction

SECOND = 1_000_000_000
FRAME = LocalFrame(48.7758, 9.1829, 245.0)
EARTH = Earth(FRAME, Pose.identity(), 0.0)
GATE = GpsGate(sigmas=5.0, least_radius_m=30.0, top_speed_mps=2.0)


def fix(east: float = 100.0, sigma_m: float | None = 1.0) -> GpsFix:
    latitude, longitude, _ = FRAME.to_geo(np.array([[east, -20.0, 0.0]]))[0]
    return GpsFix(10 * SECOND, float(latitude), float(longitude), sigma_m)


@pytest.mark.parametrize(
    ("sigma_m", "age_s", "radius_m"), [(1.0, 0, 30.0), (1.0, 2, 34.0), (8.0, 0, 40.0), (None, 0, 75.0)]
)
def test_the_region_grows_with_doubt_and_with_age(sigma_m: float | None, age_s: int, radius_m: float) -> None:
    region = GATE.region(fix(sigma_m=sigma_m), (10 + age_s) * SECOND, EARTH)
    assert region is not None
    assert region.radius_m == pytest.approx(radius_m)
    assert (region.x, region.y) == pytest.approx((100.0, -20.0), abs=0.01)


def test_tags_that_are_off_widen_it() -> None:
    region = GATE.region(fix(sigma_m=6.0), 10 * SECOND, Earth(FRAME, Pose.identity(), 8.0))
    assert region is not None and region.radius_m == pytest.approx(50.0)


def test_nothing_is_restricted_by_an_old_fix_or_without_one_or_where_the_map_is_nowhere() -> None:
    assert GATE.restriction(fix(), 20 * SECOND, EARTH) is UNRESTRICTED
    assert GATE.restriction(fix(), 5 * SECOND, EARTH) is UNRESTRICTED  # the receiver's clock is ahead
    assert GATE.restriction(None, 10 * SECOND, EARTH) is UNRESTRICTED
    assert GATE.restriction(fix(), 10 * SECOND, None) is UNRESTRICTED
    assert GATE.restriction(fix(), 10 * SECOND, EARTH).region is not None


def test_a_fix_far_from_every_place_restricts_nothing_and_counts_once_as_odds() -> None:
    places = np.array([[0.0, 0.0, 0.0], [50.0, 0.0, 7.0]])
    near, far = Region(100.0, 0.0, 30.0), Region(150.0, 0.0, 30.0)  # 1.7 and 3.3 radii from the nearest
    for region in (near, None):
        restriction = Restriction(region, frozenset({2}), measured=True)
        assert heeded(restriction, places) == (restriction, 1.0, None)
    assert heeded(Restriction(far, frozenset({2}), measured=True), places) == (
        Restriction(sessions=frozenset({2})), pytest.approx(0.01), pytest.approx(100.0),
    )  # fmt: skip
    assert heeded(Restriction(far), places)[:2] == (UNRESTRICTED, 1.0)  # nobody knows how exact it is


def message(**changed: Any) -> Any:
    known = {
        "header": SimpleNamespace(stamp=SimpleNamespace(sec=10, nanosec=0)),
        "status": SimpleNamespace(status=0),
        "latitude": 48.0, "longitude": 9.0, "altitude": 200.0,
        "position_covariance": np.diag([4.0, 9.0, 100.0]).ravel(), "position_covariance_type": 2,
    }  # fmt: skip
    return SimpleNamespace(**(known | changed))


def test_a_fix_is_as_sure_as_its_worse_horizontal_direction() -> None:
    assert read_fix(message()) == GpsFix(10 * SECOND, 48.0, 9.0, 3.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"position_covariance_type": 0},
        {"position_covariance": np.zeros(9)},
        {"position_covariance": np.full(9, np.nan)},
        {"position_covariance": -np.eye(3).ravel()},
    ],
)
def test_a_covariance_that_says_nothing_is_not_believed(changed: dict[str, Any]) -> None:
    found = read_fix(message(**changed))
    assert found is not None and found.sigma_m is None


@pytest.mark.parametrize(
    "changed",
    [
        {"status": SimpleNamespace(status=-1)},
        {"latitude": float("nan")},
        {"latitude": 91.0},
        {"longitude": 1e9},
        {"latitude": 0.0, "longitude": 0.0},  # with a status that says otherwise
    ],
)
def test_no_fix_is_none(changed: dict[str, Any]) -> None:
    assert read_fix(message(**changed)) is None
