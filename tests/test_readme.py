"""The README's Python runs as it stands."""

import re
from pathlib import Path

from tokenlens.models.adapters import support_table

README = Path(__file__).parent.parent / "README.md"


def test_the_python_example_runs_and_answers_right() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(code, str(README), "exec"), names)  # noqa: S102 - our own example
    prompt = names["inputs"]["input_ids"].shape[1]
    (answer,) = names["vlm"].decode(names["answer"][:, prompt:])
    assert answer in names["sample"].answers
    assert names["trace"].cost.total_macs < names["trace"].cost.unpruned.total_macs


def test_its_table_of_families_is_the_adapters() -> None:
    rows = ["| family | Hugging Face class | a picture becomes | `--model` |", "| --- " * 4 + "|"]
    for row in support_table():
        first = row["alias"].splitlines()[0]
        rows.append(f"| {row['family']} | `{row['architecture']}` | {row['tokens']} | `{first}` |")
    text = README.read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- families -->\n\n(.*?)\n\n<!-- /families -->", text, re.DOTALL)
    assert table.splitlines() == rows


def test_the_pictures_and_files_it_names_are_there() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (README.parent / target).exists(), target
