"""README and the site: Python runs, commands run or are understood, tables are the code's own."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.exceptions import TyperException

import tokenlens as tl
from tests.support.documents import PAGES, ROOT, Page, between
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


@pytest.mark.parametrize("name", ["README.md", "docs/python.md", "docs/methods.md"])
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


@pages
def test_the_pictures_and_files_it_names_are_there(path: Path) -> None:
    page = Page.read(path)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.text):
        assert target.startswith("https://") or (page.path.parent / target).exists(), target
