"""The command `d2vpr map build` on a recorded drive."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.mapping import read_map
from d2vpr_ros.sim.drive import record_drive


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds through the simulated town, 40 images."""
    path = tmp_path_factory.mktemp("drives") / "noon"
    record_drive(path, 7, "noon", duration_s=8.0, compressed=True, width=160, height=120)
    return path


def build(drive: Path, out: Path, *options: str, landmarks: str = "--no-landmarks") -> int:
    return d2vpr(["map", "build", str(drive), "-o", str(out), "--device", "cpu", landmarks, *options])


def test_the_build_says_what_it_used_and_what_it_left_out(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(drive, tmp_path / "town.d2map", "--spacing", "4", "--report-stored") == 0
    first, *stored, last = capsys.readouterr().out.splitlines()
    assert first == f"{drive}: 40 images on /camera/image/compressed, poses from /slam/pose"
    places = read_map(tmp_path / "town.d2map")
    assert stored == [f"stored {number}" for number in places.ids.tolist()]
    used = f"{len(places)} places from 40 images; left out: {40 - len(places)} too close to the last place"
    assert last == f"{tmp_path / 'town.d2map'}: {used}"


def test_landmarks_are_stored_at_the_end(drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "town.d2map"
    assert build(drive, out, "--spacing", "4", landmarks="--landmarks") == 0
    told = re.fullmatch(rf"{out}: landmarks of (\d+) places stored, .*", capsys.readouterr().out.splitlines()[-1])
    assert told and len(read_map(out)) / 2 < int(told[1]) <= len(read_map(out))
    assert d2vpr(["map", "check", str(out)]) == 0


def test_poses_are_left_out_on_request(drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(drive, tmp_path / "town.d2map", "--no-pose", "--no-pictures", "--max-interval", "0.5") == 0
    assert ", without poses" in capsys.readouterr().out
    places = read_map(tmp_path / "town.d2map")
    assert not places.header.metric
    assert places.positions[:, 0].tolist() == list(range(len(places)))
    assert np.diff(places.stamps_ns).min() >= 500_000_000
    assert places.picture(0) is None


def test_ctrl_c_keeps_what_is_stored_and_the_same_command_goes_on(drive: Path, tmp_path: Path) -> None:
    whole, halved = tmp_path / "whole.d2map", tmp_path / "halved.d2map"
    command = [sys.executable, "-m", "d2vpr_ros.cli.main", "map", "build", str(drive), "--no-landmarks"]
    process = subprocess.Popen(
        [*command, "-o", str(halved), "--report-stored", "--weights", "nano"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("stored 3"):
            break
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command again to continue" in errors
    assert "Traceback" not in errors
    reported = 3 + rest.count("stored")
    assert reported <= len(read_map(halved)) <= reported + 1  # it may be stopped between storing and saying so
    assert not halved.with_name("halved.d2map-wal").exists()

    assert build(drive, halved) == 0
    assert build(drive, whole) == 0
    first, second = read_map(whole), read_map(halved)
    assert first.stamps_ns.tolist() == second.stamps_ns.tolist()
    assert np.array_equal(first.positions, second.positions)
    assert np.allclose(first.descriptors, second.descriptors, atol=2e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--spacing", "0"], "--spacing 0: expected a number above 0"),
        (["--max-interval", "-1"], "--max-interval -1: expected a number above 0"),
        (["--turn", "nan"], "--turn nan: expected a number above 0"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(
    options: list[str], said: str, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(drive, tmp_path / "town.d2map", *options) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
    assert not (tmp_path / "town.d2map").exists()
