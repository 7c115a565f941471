"""Commands that run no model import neither torch nor transformers; nor do refusals."""

import json
import subprocess
import sys
from typing import Any

import pytest
from PIL import Image

from tests.support import synthetic
from tests.support.measured import write_information, write_search
from tests.support.repository import ROOT

HEAVY = ("torch", "transformers")
LISTING = [
    ["models"], ["methods"], ["benchmarks"], ["env"], ["--version"], ["run", "--help"],
    ["models", "--json"], ["methods", "--json"],
]  # fmt: skip
MEASURED = ["profile", "results", "information", "search"]
READING = {
    "a report": ["report", *MEASURED, "--out", "page", "--pictures", "1", "--figures"],
    "a report of two comparisons": ["report", "results", "again", "--out", "two"],
    "figures": ["figures", *MEASURED, "--out", "figures", "--pictures", "1", "--formats", "png"],
    "citations": ["cite", *MEASURED],
}
REFUSED: dict[str, list[str]] = {
    "no data": ["profile", "--data", "nowhere.jsonl"],
    "an empty folder of data": ["profile", "--data", "empty"],
    "a manifest of nothing": ["profile", "--data", "nothing.jsonl"],
    "a benchmark without a place": ["profile", "--data", "pope:"],
    "an unknown model": ["profile", "--model", "qwen2-vll"],
    "a folder that is no model": ["profile", "--model", "empty"],
    "a model without weights": ["profile", "--model", "outline"],
    "a revision of a local model": ["profile", "--revision", "v1"],
    "an unknown dtype": ["profile", "--dtype", "float17"],
    "an unknown device map": ["profile", "--device-map", "everywhere"],
    "a limit of nothing": ["profile", "--limit", "0"],
    "an unknown option": ["profile", "--nobody"],
    "no profile": ["select-layers"],
    "an empty profile": ["select-layers", "empty"],
    "an unknown criterion": ["select-layers", "--criterion", "regoin"],
    "a bad budget": ["select-layers", "--budget", "lots"],
    "options of re-runs": ["select-layers", "--limit", "3"],
    "no schedule": ["run"],
    "a schedule that is none": ["run", "--schedule", "nothing.jsonl"],
    "an unknown task": ["run", "--compare", "fastv", "--task", "nobody"],
    "an unknown model to run": ["run", "--compare", "fastv", "--model", "nobody"],
    "an unknown method": ["run", "--compare", "fastvv"],
    "a missing schedule to compare": ["run", "--compare", "fastv,nowhere.json"],
    "a bad budget to compare at": ["run", "--compare", "fastv", "--budget", "33%,lots"],
    "a missing profile to compare by": ["run", "--compare", "drop", "--profile", "empty"],
    "options that exclude each other": ["run", "--budget", "33%"],
    "no schedule to cost": ["cost"],
    "an unknown method to cost": ["cost", "--method", "fastvv"],
    "a bad budget to cost": ["cost", "--method", "fastv", "--budget", "lots"],
    "an unknown model to cost": ["cost", "--method", "fastv", "--model", "nobody"],
    "a bad picture to cost": ["cost", "--method", "fastv", "--picture", "wide"],
    "a picture and its tokens": [
        "cost", "--method", "fastv", "--picture", "9x9", "--visual-tokens", "9",
    ],
    "an unknown shape to bench": ["bench", "--like", "qwen3"],
    "a bad batch to bench": ["bench", "--batch", "1,x"],
    "layers of a model with weights": ["bench", "--layers", "3"],
    "an unknown model to bench": ["bench", "--model", "nobody"],
    "no results": ["report"],
    "nothing to cite": ["cite"],
    "no schedule to share": ["share", "nowhere.json", "me/plans"],
    "a repository that is none": ["run", "--schedule", "hub:plans"],
    "a repository that is none to share to": ["share", "plan.json", "plans"],
    "entries in a file of another kind": ["cite", "--out", "nothing.jsonl"],
    "a report of an empty folder": ["report", "empty"],
    "an unknown model to knock out": ["knock-out", "--model", "nobody"],
    "no data to knock out": ["knock-out", "--data", "nowhere.jsonl"],
    "no photograph to show": ["show", "nowhere.jpg", "what is it?"],
    "no question to show": ["show", "nowhere.jpg"],
    "a photograph that is none": ["show", "nothing.jsonl", "what is it?"],
    "an empty folder to show": ["show", "empty", "what is it?"],
    "a missing schedule to show": ["show", "dot.png", "what is it?", "--schedule", "nowhere.json"],
    "an unknown model to show": ["show", "dot.png", "what is it?", "--model", "nobody"],
    "a page that is none": ["show", "dot.png", "what is it?", "--out", "nothing.jsonl"],
    "an unknown model to demonstrate": ["demo", "--model", "nobody"],
}  # fmt: skip
_PROGRAM = """
import contextlib, io, json, sys
from tokenlens.cli.main import main
ended = []
for arguments in json.load(sys.stdin):
    sys.argv = ["tokenlens", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    heavy = [name for name in ("torch", "transformers") if name in sys.modules]
    ended.append([code, err.getvalue(), heavy])
json.dump(ended, sys.stdout)
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How each command ended, and what it had imported, all of them in one fresh process."""
    folder = tmp_path_factory.mktemp("starting")
    (folder / "empty").mkdir()
    (folder / "nothing.jsonl").write_text("\n")
    (folder / "outline").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "dot.png")
    samples = [synthetic.sample(index, folder / "pictures") for index in range(3)]
    synthetic.write_profile(folder / "profile", samples, heads=True)
    for name in ("results", "again"):
        synthetic.write_results(folder / name, samples)
    write_information(folder / "information")
    write_search(folder / "search")
    (folder / "plan.json").write_text((ROOT / "tests/stored/schema-1/schedule.json").read_text())
    bundled = ROOT / "data" / "tiny-qwen2-vl"
    (folder / "outline" / "config.json").write_text((bundled / "config.json").read_text())
    commands = [*LISTING, *READING.values(), *REFUSED.values()]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input=json.dumps(commands), cwd=folder,
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return dict(zip(map(str, commands), json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("arguments", LISTING, ids=" ".join)
def test_listing_imports_nothing_heavy(arguments: list[str], ended: dict[str, Any]) -> None:
    assert ended[str(arguments)] == [0, "", []]


@pytest.mark.parametrize("name", READING)
def test_what_was_measured_is_shown_without_heavy_imports(name: str, ended: dict[str, Any]) -> None:
    assert ended[str(READING[name])] == [0, "", []]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_comes_before_heavy_imports(name: str, ended: dict[str, Any]) -> None:
    code, err, heavy = ended[str(REFUSED[name])]
    assert code == 2, err
    assert "Traceback" not in err
    assert heavy == [], err


def test_a_command_that_runs_a_model_does_import_them() -> None:
    """The control: the list of modules is one that can be seen to fail."""
    commands = json.dumps([["cost", "--method", "fastv"]])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input=commands, capture_output=True, text=True,
        check=True, timeout=300,
    )  # fmt: skip
    ((code, err, heavy),) = json.loads(done.stdout)
    assert (code, heavy) == (0, list(HEAVY)), err
