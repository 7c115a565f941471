"""The README's Python runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_python_example_runs_and_answers_right() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(code, str(README), "exec"), names)  # noqa: S102 - our own example
    prompt = names["inputs"]["input_ids"].shape[1]
    (answer,) = names["vlm"].decode(names["answer"][:, prompt:])
    assert answer in names["sample"].answers
    assert names["trace"].cost.total_macs < names["trace"].cost.unpruned.total_macs


def test_the_pictures_and_files_it_names_are_there() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (README.parent / target).exists(), target
