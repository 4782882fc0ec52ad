"""The page of the localizer says the numbers that the code has, all of them and no others."""

from __future__ import annotations

import re
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest

from d2vpr_ros.localize import RejectReason
from d2vpr_ros.localize.params import DEFAULT_PARAMS

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "how-it-works.md").read_text(encoding="utf-8")
SECTION = re.split(r"^## ", PAGE.split("## The localizer\n")[1], flags=re.MULTILINE)[0]
PARAMETERS = re.findall(r"^\| `(\w+)` \| (-?[\d.e-]+) \| .+ \| .+ \|$", SECTION, flags=re.MULTILINE)
CONSTANTS = re.findall(r"^\| `(\w+)\.([\w.]+)` \| (-?[\d.e-]+) \| .+ \|$", SECTION, flags=re.MULTILINE)


def test_the_table_has_every_parameter_with_its_value() -> None:
    assert {name: float(value) for name, value in PARAMETERS} == asdict(DEFAULT_PARAMS)


@pytest.mark.parametrize(("module", "name", "value"), CONSTANTS, ids=[name for _, name, _ in CONSTANTS])
def test_a_constant_has_the_value_that_the_page_says(module: str, name: str, value: str) -> None:
    found = import_module(f"d2vpr_ros.localize.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    assert float(value) == pytest.approx(found, rel=1e-3)


def test_the_text_names_parameters_and_leaves_their_values_to_the_tables() -> None:
    assert len(CONSTANTS) > 10
    text = re.sub(r"^```.*?^```$|^\|.*?$|`[^`]*`|\(\w+ & \w+, \d{4}\)|\]\([^)]*\)", "", SECTION, flags=re.M | re.S)
    assert re.findall(r"\d+", text) == []


def test_what_the_text_and_its_equations_name_exists() -> None:
    equations = " ".join(re.findall(r"^```$(.*?)^```$", SECTION, flags=re.MULTILINE | re.DOTALL))
    own = {
        "alike_m", "off_map_prior", "top_speed", "real_i", "mapped_i", "w_i", "w_off", "w_rest", "T_i", "P_i", "c_k",
        "z_k", "p_seen", "p_expected", "var_a", "min_probability", "fit_localizer", "pose_prior", "independent_priors",
    }  # fmt: skip
    text = re.sub(r"^\|.*?$", "", SECTION, flags=re.MULTILINE)
    named = set(re.findall(r"\b[a-zA-Z]\w*_\w+\b", equations + " ".join(re.findall(r"`([^`]*)`", text))))
    assert named - own - asdict(DEFAULT_PARAMS).keys() == set()


def test_every_reason_for_silence_that_the_page_names_is_one() -> None:
    (sentence,) = re.findall(r"gives the reason: (.+?)\.", SECTION, flags=re.DOTALL)
    assert set(re.findall(r"`(.+?)`", sentence.replace("\n", " "))) <= {reason.value for reason in RejectReason}
