"""The package as it is installed: by colcon, as commands, by the scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from catkin_pkg.package import parse_package
from colcon_workspace import tracked_files

import d2vpr_ros
from d2vpr_ros.cli.main import VERBS, main

CHECKOUT = Path(__file__).resolve().parent.parent
EXECUTABLES = ("d2vpr", "d2vpr_localizer", "d2vpr_map_builder")


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def in_front(path: Path, variable: str) -> str:
    """The environment's search path with one more folder, as sourcing a workspace makes it."""
    return os.pathsep.join(filter(None, [str(path), os.environ.get(variable)]))


def test_package_xml_names_the_ros_packages_that_the_nodes_import() -> None:
    package = parse_package(CHECKOUT / "package.xml")
    needed = {dependency.name for dependency in package.exec_depends}
    assert package.get_build_type() == "ament_python"
    assert package.version == d2vpr_ros.__version__
    assert {
        "rclpy", "sensor_msgs", "geometry_msgs", "nav_msgs", "diagnostic_msgs", "std_srvs", "cv_bridge",
        "sensor_msgs_py", "tf2_ros", "launch_ros",
    } <= needed  # fmt: skip
    imported = re.compile(r"^\s*(?:from|import) (\w+_msgs|\w+_srvs|rcl\w+|\w+_interfaces)\b", re.MULTILINE)
    for module in (CHECKOUT / "d2vpr_ros").rglob("*.py"):
        missing = set(imported.findall(module.read_text(encoding="utf-8"))) - needed
        assert not missing, f"{module} imports {missing}"


def test_colcon_installs_what_ros2_run_and_ros2_launch_look_for(workspace: Path) -> None:
    for executable in EXECUTABLES:
        installed = workspace / "lib" / "d2vpr_ros" / executable
        assert os.access(installed, os.X_OK)
        # Whoever builds with the Python of .venv gets nodes that find what is installed there.
        assert installed.read_text(encoding="utf-8").startswith(f"#!{sys.executable}\n")
    assert (workspace / "share/ament_index/resource_index/packages/d2vpr_ros").is_file()
    share = workspace / "share" / "d2vpr_ros"
    for file in (
        "package.xml",
        "launch/localize.launch.py",
        "launch/build_map.launch.py",
        "config/localize.yaml",
        "config/fastdds.xml",
    ):
        assert (share / file).is_file()
    weights = {path.name for path in (CHECKOUT / "models" / "weights").glob("*") if path.suffix == ".safetensors"}
    assert weights <= {path.name for path in (share / "weights").glob("*")}


def test_the_command_is_on_the_path_of_a_sourced_workspace(workspace: Path) -> None:
    setup = workspace.parent / "setup.bash"
    result = run("bash", "-c", f"source {setup} && command -v d2vpr && d2vpr --version")
    assert result.stdout.splitlines() == [
        str(workspace / "lib" / "d2vpr_ros" / "d2vpr"),
        f"d2vpr_ros {d2vpr_ros.__version__}",
    ]


def test_a_wheel_has_the_commands_where_ros2_run_looks(tmp_path: Path) -> None:
    for file in tracked_files(CHECKOUT):  # a build leaves files beside its sources
        if file.parts[0] in ("d2vpr_ros", "scripts", "resource") or len(file.parts) == 1:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / file, tmp_path / file)
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", str(tmp_path))
    result = run(*pip, "-w", tmp_path / "dist")
    assert result.returncode == 0, result.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        for executable in EXECUTABLES:
            name = f"d2vpr_ros-{d2vpr_ros.__version__}.data/data/lib/d2vpr_ros/{executable}"
            assert packed.getinfo(name).external_attr >> 16 & 0o111  # pip keeps that it may be run
            assert f"../../bin/{executable}" in packed.read(name).decode()


@pytest.mark.parametrize(
    ("command", "words"), [("d2vpr", ["map", "info", "x"]), ("d2vpr_localizer", []), ("d2vpr_map_builder", [])]
)
def test_a_python_without_the_libraries_is_answered_in_one_line(command: str, words: list[str]) -> None:
    """As a plain `colcon build` leaves it: its commands run with ROS's own Python."""
    script = (
        f"import sys; sys.modules['numpy'] = None; sys.argv = {[command, *words]}; "
        f"from d2vpr_ros import entry; sys.exit(entry.{command}())"
    )
    result = run(sys.executable, "-c", script)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {sys.executable} has no module numpy; make the package's own environment")
    assert result.stderr.count("\n") == 1


def test_one_range_of_python_versions_is_named_everywhere() -> None:
    files = ("README.md", "scripts/setup", "requirements/arrays.txt", "requirements/runtime.txt")
    named = {text for file in files for text in re.findall(r"Python (3\.\d+ to 3\.\d+)", (CHECKOUT / file).read_text())}
    assert named == {"3.10 to 3.13"}


def test_an_installed_package_finds_its_own_share_folder_and_all_its_modules(workspace: Path, tmp_path: Path) -> None:
    (packages,) = workspace.glob("lib/python*/site-packages")
    paths = {"PYTHONPATH": packages, "AMENT_PREFIX_PATH": workspace}
    script = (
        "import importlib, pkgutil, d2vpr_ros, d2vpr_ros.share as share;"
        "[importlib.import_module(found.name) for found in pkgutil.walk_packages(d2vpr_ros.__path__, 'd2vpr_ros.')];"
        "print(share.share_folder())"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {name: in_front(path, name) for name, path in paths.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()) == workspace / "share" / "d2vpr_ros"
    pages = Path("d2vpr_ros", "evaluation")
    files = {file.name for file in (CHECKOUT / pages).iterdir() if file.suffix in (".css", ".j2", ".js")}
    assert "report.html.j2" in files
    for file in files:
        assert (packages / pages / file).read_bytes() == (CHECKOUT / pages / file).read_bytes()


def test_every_command_of_the_package_can_be_imported() -> None:
    commands = [command for command in entry_points(group="console_scripts") if command.name in EXECUTABLES]
    assert {command.name for command in commands} == set(EXECUTABLES)
    assert all(callable(command.load()) for command in commands)


def test_every_verb_module_is_a_command_and_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    modules = {path.stem for path in (CHECKOUT / "d2vpr_ros" / "cli").glob("*.py")}
    modules = {name for name in modules if not name.endswith("_options")} - {"__init__", "main"}
    assert {module.rpartition(".")[2] for module in VERBS.values()} == modules
    for verb in VERBS:
        with pytest.raises(SystemExit) as stopped:
            main([*verb, "--help"])
        assert stopped.value.code == 0
        assert f"usage: d2vpr {' '.join(verb)}" in capsys.readouterr().out


def test_the_help_lists_all_verbs_without_importing_torch_or_rclpy() -> None:
    script = (
        "import sys; from d2vpr_ros.cli.main import main; main(['--help']);"
        "print(*{'torch', 'rclpy', 'cv2', 'numpy'} & set(sys.modules), sep='', end='', file=sys.stderr)"
    )
    result = run(sys.executable, "-c", script)
    assert result.stderr == "", "these were imported"
    assert all(f"d2vpr {' '.join(verb)} " in result.stdout for verb in VERBS)


def test_a_noun_alone_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map"]) == 0
    out = capsys.readouterr().out
    assert "d2vpr map build" in out
    assert "d2vpr bag" not in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mpa build", "error: `d2vpr mpa` is not a command; did you mean `d2vpr map`?"),
        ("map bild", "error: `d2vpr map bild` is not a command; did you mean `d2vpr map build` or `d2vpr map view`?"),
        ("--verbose", "error: option '--verbose' without a verb; `d2vpr --help` lists the verbs"),
    ],
)
def test_an_unknown_verb_is_answered_with_the_nearest_ones(
    words: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().err == expected + "\n"


def test_a_mistake_of_the_user_is_one_line_and_status_2() -> None:
    result = run(sys.executable, "-m", "d2vpr_ros.cli.main", "bag", "info", "nowhere")
    assert result.returncode == 2
    assert result.stderr.startswith("error: nowhere: ")
    assert result.stderr.count("\n") == 1


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"set -o pipefail; {sys.executable} -m d2vpr_ros.cli.main --help | true"
    result = run("bash", "-c", command)
    assert result.stderr == ""


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/demo", "scripts/test", ".ci/run"])
def test_the_scripts_can_be_run(script: str) -> None:
    assert os.access(CHECKOUT / script, os.X_OK)
    assert run("bash", "-n", CHECKOUT / script).stderr == ""


@pytest.mark.parametrize("script", ["setup", "demo", "test"])
def test_the_help_of_a_script_says_what_it_does_and_does_nothing(script: str, tmp_path: Path) -> None:
    copy = tmp_path / "scripts" / script
    copy.parent.mkdir()
    copy.write_bytes((CHECKOUT / "scripts" / script).read_bytes())
    result = run("bash", copy, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: scripts/{script}")
    assert not (tmp_path / ".venv").exists()


def test_setup_names_a_python_that_does_not_fit_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "setup").write_bytes((CHECKOUT / "scripts" / "setup").read_bytes())
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "flock", "uname", "cat", "grep", "id"):
        (tools / name).symlink_to(
            next(Path(folder, name) for folder in ("/usr/bin", "/bin") if Path(folder, name).exists())
        )
    old = tools / "python3"
    old.write_text(
        '#!/bin/bash\ncase $2 in *executable*) echo "Python 3.8.10 at /usr/bin/python3" ;; *) exit 1 ;; esac\n'
    )
    old.chmod(0o755)
    for name in ("python3.10", "python3.11", "python3.12", "python3.13"):
        (tools / name).symlink_to(old)
    result = subprocess.run(
        [tools / "bash", tmp_path / "scripts" / "setup"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: found Python 3.8.10 at /usr/bin/python3; d2vpr_ros needs Python 3.10 to 3.13"
    )
    assert result.stderr.count("\n") == 1
