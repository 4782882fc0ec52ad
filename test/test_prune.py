"""A map gets thinner by what it shows twice, oldest first, and by whole sessions; what stays is what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from places import unit_rows, write_places, write_sessions

from d2vpr_ros.cli.main import main
from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.check import check_map
from d2vpr_ros.mapping.prune import PruneRule, choose, prune_map

DAYS = ["monday", "tuesday", "friday"]


def pruned(place_map: PlaceMap, rule: PruneRule) -> PlaceMap:
    out = place_map.path.with_name("pruned.d2map")
    prune_map(place_map, choose(place_map, rule), out, rule.spacing_m)
    check_map(out, lambda problem: pytest.fail(str(problem)))
    return read_map(out)


def test_places_closer_than_the_spacing_go(tmp_path: Path) -> None:
    poses = [Pose.planar(x, 0.0, 0.0) for x in (0.0, 0.4, 1.0, 1.5, 2.0, 3.2)]
    thin = pruned(write_places(tmp_path / "a.d2map", poses, unit_rows(6, seed=1)), PruneRule(spacing_m=1.0))
    assert thin.positions[:, 0].tolist() == [0.0, 1.0, 2.0, 3.2]


def test_a_place_that_looks_another_way_stays(tmp_path: Path) -> None:
    poses = [Pose.planar(0.0, 0.0, np.radians(yaw)) for yaw in (0, 15, 90, 180, 355)]
    thin = pruned(write_places(tmp_path / "a.d2map", poses, unit_rows(5, seed=1)), PruneRule(spacing_m=1.0))
    assert thin.ids.tolist() == [1, 3, 4]


def test_where_sessions_show_the_same_the_newest_wins(tmp_path: Path) -> None:
    old_and_new = write_sessions(tmp_path / "a.d2map", DAYS, 5)
    beside = pruned(old_and_new, PruneRule(spacing_m=2.0))  # the streets of the sessions are 10 m apart
    assert {int(key) for key in beside.sessions} == {1, 2, 3}
    beside.path.unlink()
    assert set(pruned(old_and_new, PruneRule(spacing_m=30.0, turn_deg=60.0)).sessions) == {3}


def test_the_newest_sessions_are_those_that_end_last(tmp_path: Path) -> None:
    thin = pruned(write_sessions(tmp_path / "a.d2map", DAYS, 5, ("front", "rear")), PruneRule(newest=2))
    assert [session.name for session in thin.session_table.values()] == ["tuesday", "friday"]
    assert len(thin.camera_table) == 4  # those of the dropped session are gone


def test_what_stays_keeps_its_id_picture_and_descriptor_and_the_file_shrinks(tmp_path: Path) -> None:
    whole = write_sessions(tmp_path / "a.d2map", DAYS, 200, origin=LocalFrame(55.7, 13.19, 40.0))
    before = whole.path.read_bytes()
    thin = pruned(whole, PruneRule(drop=frozenset({1, 3})))
    assert thin.ids.tolist() == whole.ids[200:400].tolist()
    assert np.array_equal(thin.descriptors, whole.descriptors[200:400])
    assert thin.picture(7) == whole.picture(207)
    assert thin.path.stat().st_size < 0.6 * len(before)
    assert whole.path.read_bytes() == before


def test_a_map_says_how_coarse_it_has_become(tmp_path: Path) -> None:
    poses = [Pose.planar(x, 0.0, 0.0) for x in range(20)]
    thin = pruned(write_places(tmp_path / "a.d2map", poses, unit_rows(20, seed=1)), PruneRule(spacing_m=3.0))
    assert thin.header.keyframe_spacing_m == 3.0 == thin.spacing_m


def test_a_map_is_not_pruned_to_nothing_nor_by_a_session_it_lacks(tmp_path: Path) -> None:
    place_map = write_sessions(tmp_path / "a.d2map", DAYS, 2)
    with pytest.raises(UserError, match="without places"):
        choose(place_map, PruneRule(drop=frozenset({1, 2, 3})))
    with pytest.raises(UserError, match=r"no session 7; it has 1, 2, 3"):
        choose(place_map, PruneRule(drop=frozenset({7})))


def test_the_command_says_what_it_dropped_and_replaces_only_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_sessions(tmp_path / "a.d2map", DAYS, 5).path, tmp_path / "b.d2map"
    arguments = ["map", "prune", str(path), "-o", str(out), "--drop", "1", "--spacing", "2"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "session 1 'monday': dropped with its 5 places" in said
    assert "session 3 'friday': 3 of 5 places kept" in said
    assert main(arguments) == 2
    assert main([*arguments, "--force"]) == 0
    assert main([*arguments[:4], str(path), "--newest", "1", "--force"]) == 2  # itself
    assert main(["map", "prune", str(path), "-o", str(tmp_path / "c.d2map")]) == 2  # by what?
    assert len(read_map(path)) == 15 and len(read_map(out)) == 6
