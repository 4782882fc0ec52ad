"""The documentation: its examples run, what its commands name exists, and its links lead somewhere."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from docs_commands import ROOT, blocks, commands, trouble

from d2vpr_ros.cli.main import VERBS
from d2vpr_ros.cli.main import main as d2vpr

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = "bash run"
WITH_EXAMPLES = [page for page in PAGES if any(kind.startswith(RUN) for kind, _ in blocks(page))]
MADE_ONCE = (["sim", "drive"], ["map", "build"])


def names(pages: list[Path]) -> list[str]:
    return [page.stem for page in pages]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """What is in a page's folder after its first commands, by those commands: pages that begin alike share it."""
    return {}


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=names(WITH_EXAMPLES))
def test_the_examples_of_a_page_work_when_they_are_copied_in_order(
    page: Path,
    made: dict[tuple[str, ...], Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "copied"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before: tuple[str, ...] = ()
    for kind, text in blocks(page):
        needed = kind.removeprefix(RUN).split()
        if not kind.startswith(RUN) or not all(find_spec(f"py{name}") for name in needed):
            continue
        for words in commands(text):
            assert words[0] == "d2vpr", f"{words[0]} is run by no test; mark its block with bash alone"
            before = (*before, " ".join(words))
            if before in made:
                shutil.copytree(made[before], folder, dirs_exist_ok=True)
                continue
            assert d2vpr(words[1:]) == 0, before[-1]
            if words[1:3] in MADE_ONCE:
                made[before] = tmp_path_factory.mktemp("made") / "folder"
                shutil.copytree(folder, made[before])


def test_the_page_of_every_task_begins_with_an_example_that_runs() -> None:
    assert len(WITH_EXAMPLES) > 10
    for page in WITH_EXAMPLES:
        first = next(kind for kind, _ in blocks(page) if kind.startswith("bash"))
        assert first.startswith(RUN), page


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_the_verbs_options_and_arguments_of_the_commands_exist(page: Path) -> None:
    found = [words for kind, text in blocks(page) if kind.startswith("bash") or not kind for words in commands(text)]
    wrong = [said for words in found if (said := trouble(words))]
    assert not wrong


def test_a_command_that_does_not_exist_is_noticed() -> None:
    for command, said in (
        ("d2vpr map bild x", "d2vpr map bild is no verb"),
        ("ros2 launch d2vpr_ros localize.launch.py mapp:=x", "localize.launch.py has no argument mapp"),
        ("ros2 service call /d2vpr_localizer/forget std_srvs/srv/Trigger", "the reference has no row"),
        ("OMP_NUM_THREADS=1 python -m models.bench.search --speed", "models.bench.search has no option --speed"),
        ("d2vpr map info site.d2map && d2vpr map info --all site.d2map", "is refused by its parser"),
    ):
        (wrong,) = filter(None, map(trouble, commands(command)))
        assert said in wrong


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_a_verb_that_a_sentence_names_exists(page: Path) -> None:
    nouns = {verb[0] for verb in VERBS}
    for words in re.findall(r"`d2vpr ((?:[a-z][a-z-]* ?)+)", page.read_text(encoding="utf-8")):
        assert words.split()[0] in nouns, words


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=names([*PAGES, ROOT / "CHANGELOG.md"]))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not heading or heading in headings(file), target


def test_the_readme_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in readme, page.name


def headings(page: Path) -> set[str]:
    """The addresses of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
