"""`tokenlens share`, and `hub:USER/NAME` wherever a schedule file is taken."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Ended
from tests.support.fake_hub import Hub, fake_hub
from tests.support.repository import ROOT
from tokenlens.evaluation.comparing.arm_names import sorted_names
from tokenlens.harnesses.lmms_arguments import ScheduleFile
from tokenlens.schedule import Schedule

Command = Callable[..., Ended]
STORED = ROOT / "tests" / "stored" / "schema-1" / "schedule.json"
REPO = "me/plans"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with fake_hub(tmp_path / "cache") as found:
        yield found


def test_a_schedule_is_shared_and_costed_from_there(command: Command, hub: Hub) -> None:
    ended = command("share", STORED, REPO, "--license", "mit", "--json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert told["results"]["repo"] == REPO
    commit = told["results"]["commit"]
    files = hub.repositories[REPO].commits[commit]
    assert files["README.md"].decode() == told["results"]["card"]
    assert told["next"] == f"tokenlens run --schedule hub:{REPO}@{commit}"
    there = command("cost", "--schedule", f"hub:{REPO}@{commit}", "--json")
    here = command("cost", "--schedule", STORED, "--json")
    assert json.loads(there.out)["results"] == json.loads(here.out)["results"]
    assert there.err == ""
    keys = json.loads(command("cite", f"hub:{REPO}", "--json").out)["results"]["references"]
    assert len(keys) == 2


def test_the_model_s_revision_is_no_branch(
    command: Command, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENLENS_REVISION", "v9")  # of models, in all commands
    assert command("share", STORED, REPO).code == 0
    assert list(hub.repositories[REPO].branches) == ["main"]


def test_a_run_by_the_hub_s_schedule(command: Command, hub: Hub, tmp_path: Path) -> None:
    assert command("share", STORED, REPO).code == 0
    how = ("--limit", 2, "--max-new-tokens", 2, "--out", "mine", "--json")
    ended = command("run", "--schedule", f"hub:{REPO}@main", *how)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["written"][-1] == {"what": "Results", "path": "mine"}
    arms = json.loads((tmp_path / "mine" / "summary.json").read_text())["arms"]
    stages = [stage["score_layer"] for stage in arms["swiftvlm"]["schedule"]["stages"]]
    assert stages == [stage.score_layer for stage in Schedule.load(STORED).stages]


def test_a_dry_run_sends_nothing(command: Command, hub: Hub) -> None:
    ended = command("share", STORED, REPO, "--dry-run")
    assert ended.code == 0
    assert ended.out.startswith("---\nlibrary_name: tokenlens\n")
    assert f"Nothing was sent to {REPO}." in ended.out
    assert hub.asked == []
    assert hub.repositories == {}


def test_comparisons_and_harnesses_take_it_too(command: Command, hub: Hub) -> None:
    assert command("share", STORED, REPO).code == 0
    assert sorted_names(["fastv", f"hub:{REPO}"]) == (["fastv"], [Path(f"hub:{REPO}")])
    with pytest.warns(UserWarning, match=f"give schedule=hub:{REPO},schedule_hash=sha256:"):
        found = ScheduleFile.read(f"hub:{REPO}")
    assert found.schedule == Schedule.load(STORED)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--schedule", f"hub:{REPO}"], "is not on the hub"),
        (["run", "--schedule", "hub:plans"], "expected USER/NAME"),
        (["cost", "--schedule", "hub:"], "expected USER/NAME"),
        (["report", "--schedule", "hub:x\x1b[2Jy/z"], "expected USER/NAME"),
        (["run", "--compare", f"fastv,hub:{REPO}"], "is not on the hub"),
        (["share", STORED, "plans"], "expected USER/NAME"),
        (["share", STORED, REPO, "--branch", "v9"], "no such revision"),
        (["share", "nowhere.json", REPO], "select-layers"),
    ],
)
def test_what_the_hub_does_not_do_is_one_line(
    command: Command, hub: Hub, arguments: list[object], words: str
) -> None:
    if "report" in arguments:
        arguments = [*arguments, STORED.parent / "profile"]
    ended = command(*arguments)
    assert ended.code == 2
    assert words in ended.line
    assert "\x1b" not in ended.err


def test_a_damaged_file_of_the_hub_is_not_run(command: Command, hub: Hub) -> None:
    content = json.loads(STORED.read_text())
    hub.repository(REPO, schedule=json.dumps({**content, "sha256": "0" * 64}).encode())
    ended = command("run", "--schedule", f"hub:{REPO}")
    assert (ended.code, "damaged" in ended.line) == (2, True)
    assert f"hub:{REPO}: sha256" in ended.line
    content.pop("sha256", None)
    hub.repository(REPO, schedule=json.dumps(content).encode())
    assert command("cost", "--schedule", f"hub:{REPO}").code == 0  # the control
