"""README and the site: Python runs, commands run or are understood, tables are the code's own."""

import doctest
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.exceptions import TyperException

import tokenlens as tl
from tests.support.documents import PAGES, Page, between
from tests.support.repository import ROOT
from tokenlens import errors
from tokenlens.cli.main import app
from tokenlens.models.adapters import support_table
from tokenlens.registry import METHODS

pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


def _understood(words: list[str]) -> None:
    """Let the command's own parser read a command, without running it."""
    command = typer.main.get_command(app).commands[words[0]]
    command.make_context(words[0], words[1:])


@pages
def test_every_command_is_understood(path: Path) -> None:
    for words in Page.read(path).commands():
        _understood(words)


def test_a_command_with_an_unknown_option_is_not_understood() -> None:
    with pytest.raises(TyperException, match="No such option"):
        _understood(["profile", "--no-such-option"])


WITH_PYTHON = [
    "README.md",
    "docs/python.md",
    "docs/methods.md",
    "docs/information.md",
    "docs/errors.md",
    "docs/extend.md",
    "docs/importances.md",
    "docs/show.md",
    "docs/notebooks.md",
]


def test_every_page_with_python_is_run() -> None:
    pages = [path for path in PAGES if Page.read(path).blocks("python")]
    assert sorted(str(path.relative_to(ROOT)) for path in pages) == sorted(WITH_PYTHON)


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_the_python_runs(name: str) -> None:
    names: dict = {}
    blocks = Page.read(ROOT / name).blocks("python")
    assert blocks
    for code in blocks:
        exec(compile(code, name, "exec"), names)  # noqa: S102 - our own examples
    if "answer" in names:
        prompt = names["inputs"]["input_ids"].shape[1]
        (answer,) = names["vlm"].decode(names["answer"][:, prompt:])
        assert answer in names["sample"].answers
        assert names["trace"].cost.total_macs < names["trace"].cost.unpruned.total_macs


def _wrong_examples(page: Page) -> list[str]:
    """What the examples that show an error, or what mends it, print beside what the page says."""
    names: dict = {}
    for code in page.blocks("python"):
        exec(compile(code, page.path.name, "exec"), names)  # noqa: S102 - our own examples
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    for number, block in enumerate(page.blocks("pycon")):
        name = f"{page.path.name}, block {number}"
        example = doctest.DocTestParser().get_doctest(block, names, name, None, 0)
        runner.run(example, out=report.append, clear_globs=False)
        names.update(example.globs)
    return report


def test_the_errors_are_raised_as_the_page_shows_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Page.read(ROOT / "docs" / "errors.md")
    assert len(page.blocks("pycon")) > 10
    assert _wrong_examples(page) == []


def test_an_error_that_the_page_shows_otherwise_is_found() -> None:
    text = "```pycon\n>>> int('x')\nTraceback (most recent call last):\nValueError: no\n\n```\n"
    assert "invalid literal" in "".join(_wrong_examples(Page(Path("wrong.md"), text)))


def test_every_error_and_warning_has_its_place_on_the_page() -> None:
    text = Page.read(ROOT / "docs" / "errors.md").text
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert [kind.__name__ for kind in kinds if kind.__name__ not in text] == []


def test_every_public_name_has_its_place_on_the_page() -> None:
    text = Page.read(ROOT / "docs" / "python.md").text
    missing = [name for name in tl.__all__ if not re.search(rf"tokenlens\.{name}\b", text)]
    assert missing == [], "add a line `::: tokenlens.NAME` to docs/python.md for each"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart.md", "methods.md"])
def test_the_commands_of_bash_blocks_run(name: str, command: Callable) -> None:
    page = Page.read(ROOT / "docs" / name)
    lines = [line for block in page.blocks("bash") for line in block.splitlines()]
    assert lines
    bash = Page(page.path, "```bash\n" + "\n".join(lines) + "\n```")
    for words in bash.commands():
        assert command(*words).code == 0, words


def test_the_example_schedule_is_one() -> None:
    (example,) = Page.read(ROOT / "docs" / "schedule-file.md").blocks("json")
    schedule = tl.Schedule.model_validate_json(example)
    assert [stage.first_layer for stage in schedule.stages] == [7, 9, 15]


def test_the_table_of_methods_is_the_registry() -> None:
    rows = ["| method | what it does |", "| --- | --- |"]
    rows += [f"| `{name}` | {METHODS[name].summary} |" for name in METHODS]
    table = between(Page.read(ROOT / "docs" / "methods.md").text, "methods")
    assert table.splitlines() == rows


def test_the_table_of_families_is_the_adapters() -> None:
    rows = ["| family | Hugging Face class | a picture becomes | `--model` |", "| --- " * 4 + "|"]
    for row in support_table():
        first = row["alias"].splitlines()[0]
        rows.append(f"| {row['family']} | `{row['architecture']}` | {row['tokens']} | `{first}` |")
    table = between(Page.read(ROOT / "docs" / "models.md").text, "families")
    assert table.splitlines() == rows


def test_the_table_of_extras_is_what_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {name: of for name, of in project["optional-dependencies"].items() if name != "dev"}
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| `(.*)` \|$", Page.read(ROOT / "docs/install.md").text, re.MULTILINE
    )
    assert {name: [requirement] for name, requirement in rows} == declared


@pages
def test_the_pictures_and_files_it_names_are_there(path: Path) -> None:
    page = Page.read(path)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.text):
        assert target.startswith("https://") or (page.path.parent / target).exists(), target
