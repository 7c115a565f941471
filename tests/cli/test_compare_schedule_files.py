"""`run --compare` takes model and data from the schedule files it is given, and says so."""

import json
from pathlib import Path

import pytest

from tests.support import synthetic
from tokenlens.errors import ScheduleError
from tokenlens.evaluation.comparing.origins import made_for


def schedule(model, data):
    content = synthetic.schedule(why={"data": data} if data else None).as_json()
    content["model"]["id"] = model
    return synthetic.schedule(model=content["model"], why=content.get("why"))


def test_one_schedule_names_model_and_data():
    own = made_for({Path("a.json"): schedule("m", "d.jsonl")})
    assert (own.model, own.data) == ("m", "d.jsonl")
    named = made_for({Path("a.json"): schedule("m", "d.jsonl")}, model="other", data="e")
    assert (named.model, named.revision, named.data) == ("other", None, "e")
    assert made_for({}).model is None


def test_schedules_of_different_things_are_refused():
    files = {Path("a.json"): schedule("m", "d"), Path("b.json"): schedule("m", "e")}
    with pytest.raises(ScheduleError, match=r"a\.json was made for 'd', b\.json for 'e'.*--data"):
        made_for(files)
    assert made_for(files, data="f").data == "f"


def test_the_command_runs_the_data_of_its_schedule_file(command, tmp_path):
    from tests.cli.test_cli_bad_input import SCHEDULE, changed, manifest

    data = manifest(tmp_path, [{}, {}])
    content = changed("why", {"data": str(data)})
    assert "why" not in SCHEDULE
    (tmp_path / "mine.json").write_text(json.dumps(content))
    ended = command("run", "--compare", "mine.json", "--max-new-tokens", 1, "--out", "out")
    assert ended.code == 0, ended.err
    first = ended.err.splitlines()[0]
    assert first == f"Running tiny-qwen2-vl on 2 samples of data ({data})"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["command"][:3] == ["tokenlens", "run", "--compare"]
    assert summary["cautions"]
    assert "Caution: " in ended.out
