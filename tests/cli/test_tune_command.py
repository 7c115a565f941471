"""`tokenlens tune` as a user types it: what it prints and writes, and what it refuses in a line."""

import json

import pytest

from tests.cli.test_cli_bad_input import refused
from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tokenlens.schedule import Schedule
from tokenlens.tuning import goal

WRONG = [
    ([], "got none of them"),
    (["--budget", "33% MACs", "--min-retained", "98%"], "got --budget and --min-retained"),
    (["--budget", "33%", "--min-agreement", "98%"], "got --budget and --min-agreement"),
    (["--min-retained", "98%", "--min-agreement", "98%"], "expected exactly one"),
    (["--min-retained", "98%", "--no-labels"], "--min-agreement"),
    (["--min-retained", "98"], "--min-retained"),
    (["--min-retained", "0%"], "--min-retained"),
    (["--min-retained", "101%"], "--min-retained"),
    (["--min-retained", "x\x1b[2J\u202ey"], "--min-retained"),
    (["--min-agreement", "9" * 5000], "--min-agreement"),
    (["--budget", "nan"], "budget"),
    (["--budget", "0"], "budget"),
    (["--budget", ""], "--budget"),
    (["--budget", "33%", "--objective", "flops"], "--objective"),
    (["--budget", "33%", "--trials", "-1"], "--trials"),
    (["--budget", "33%", "--trials", "many"], "--trials"),
    (["--budget", "33%", "--timeout", "0"], "--timeout"),
    (["--budget", "33%", "--timeout", "nan"], "--timeout"),
    (["--budget", "33%", "--seed", "-1"], "--seed"),
    (["--budget", "33%", "--limit", "0"], "--limit"),
    (["--budget", "33%", "--batch-size", "0"], "--batch-size"),
    (["--budget", "33%", "--model", "qwen2-vll"], "qwen2-vl"),
    (["--budget", "33%", "--data", "no-such-place"], "no-such-place"),
    (["--budget", "33%", "--profile", "no-such-place"], "no-such-place"),
]


@pytest.mark.parametrize(("options", "word"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_options_are_refused_in_one_line(command, options, word):
    line = refused(command("tune", *options), word)
    assert len(line) <= 520
    assert "\x1b" not in line


def test_without_optuna_it_says_what_to_install(command, monkeypatch):
    monkeypatch.setattr(goal, "find_spec", lambda _: None)
    refused(command("tune", "--budget", "33%"), "pip install 'tokenlens[tune]'")


@pytest.fixture
def data(tmp_path):
    """A folder of two splits of noise."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split, part in (("calibration", slice(0, 8)), ("held-out", slice(8, 12))):
        rows = []
        for sample in counted_samples(12)[part]:
            sample.image.save(folder / f"{sample.id}.png")
            row = {"id": sample.id, "image": f"{sample.id}.png", "question": sample.question}
            rows.append(json.dumps({**row, "task": sample.task}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_a_search_is_printed_written_and_continued(command, data, tmp_path):
    model = save_model_directory(tmp_path / "model", tiny_qwen2_vl(4))
    words = ["tune", "--model", model, "--data", data, "--max-new-tokens", 2, "--out", "found"]
    ended = command(*words, "--budget", "60% MACs", "--trials", 2)
    assert ended.code == 0, ended.err
    for part in ("◀ chosen", "Optimism", "4 held-out ones", "Next: tokenlens run"):
        assert part in ended.out, ended.out
    written = {path.name for path in (tmp_path / "found").iterdir()}
    assert written >= {"front.json", "trials.csv", "front.svg", "front.png", "schedule.json"}
    schedule = Schedule.load(tmp_path / "found/schedule.json")
    assert schedule.why.command[:2] == ("tokenlens", "tune")
    more = command(*words, "--budget", "60% MACs", "--trials", 3)
    assert more.code == 0, more.err
    before, after = (int(one.out.split(" trials:")[0].split()[-1]) for one in (ended, more))
    assert after == before + 1
    refused(command(*words, "--budget", "50% MACs"), "holds another tuning: its goal")
    ran = command("run", "--schedule", "found/schedule.json", "--limit", 2, "--max-new-tokens", 2)
    assert ran.code == 0, ran.err


def test_what_nothing_reaches_is_said_with_the_nearest(command, data, tmp_path):
    model = save_model_directory(tmp_path / "model", tiny_qwen2_vl(4))
    (data / "held-out.jsonl").unlink()  # which none of it needs
    words = ["--model", model, "--data", data, "--max-new-tokens", 2, "--held-out", 0]
    ended = command("tune", *words, "--min-agreement", "100%", "--trials", 1, "--out", "none")
    refused(ended, "no schedule of", "the nearest")
    assert (tmp_path / "none/front.json").exists()
    assert not (tmp_path / "none/schedule.json").exists()
    assert "There are no held-out samples" in ended.out
