"""Damage is seen: what is written is known again, and what was changed is named."""

import json
import random

import pyarrow as pa
import pytest

import tokenlens as tl
from tests.support.builders import counted_samples, save_model_directory, tiny_qwen2_vl
from tokenlens.errors import (
    DamagedShardWarning,
    OutputError,
    ProfileError,
    ResultsError,
    ScheduleError,
)
from tokenlens.schedule import Schedule
from tokenlens.storage.seals import read_sealed, sealed, write_sealed
from tokenlens.storage.shard_files import DamagedShardError, check_shard, write_shard

RUN = "ab12"
STEPS = [{"score_layer": 2, "when": "after", "keep": 0.5, "disposal": "drop"}]


def schedule():
    return Schedule(schema=1, method="mine", model={"architecture": "X", "layers": 4}, stages=STEPS)


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard-00003.parquet"
    table = pa.table({"a": list(range(300)), "s": [f"answer {i}" for i in range(300)]})
    write_shard(path, table, RUN, 3)
    return path


def test_every_flip_in_the_rows_of_a_shard_is_found(shard):
    content = shard.read_bytes()
    assert check_shard(shard, RUN, 3) == 300
    seal = content.rindex(b"run=")
    draw = random.Random(0)
    for _ in range(500):
        place = draw.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        shard.write_bytes(damaged)
        if seal <= place // 8 < seal + 100:  # only the hash itself is lost, the rows are whole
            continue
        with pytest.raises(DamagedShardError):
            check_shard(shard, RUN, 3)
    for cut in (0, 3, len(content) // 2, len(content) - 1):
        shard.write_bytes(content[:cut])
        with pytest.raises(DamagedShardError):
            check_shard(shard, RUN, 3)


def test_a_shard_of_another_place_or_run_is_found(shard):
    for run, place in (("ab13", 3), (RUN, 2)):
        with pytest.raises(DamagedShardError, match="another"):
            check_shard(shard, run, place)


def test_json_tells_that_it_was_changed(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, {"rows": 3, "sizes": (1, 2.5), "wall_s": 1.0})
    assert read_sealed(path, ProfileError, "x")["sizes"] == [1, 2.5]
    text = path.read_text()
    path.write_text(text.replace("2.5", "2.25"))
    with pytest.raises(ProfileError, match=r"a\.json is damaged: .*; do this"):
        read_sealed(path, ProfileError, "do this")
    path.write_text('{"rows": 3}')
    assert read_sealed(path, ProfileError, "x") == {"rows": 3}
    assert sealed({"a": 1, "wall_s": 1})["sha256"] == sealed({"wall_s": 2, "a": 1})["sha256"]


def test_a_schedule_that_was_edited_says_how_it_is_accepted(tmp_path):
    path = tmp_path / "out.json"
    schedule().save(path)
    assert Schedule.load(path) == schedule()
    content = json.loads(path.read_text())
    assert Schedule(**content) == schedule()
    content["stages"][0]["keep"] = 0.25
    path.write_text(json.dumps(content))
    with pytest.raises(ScheduleError, match=r"out\.json: sha256: .*delete the line"):
        Schedule.load(path)
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert Schedule.load(path).stages[0].keep == 0.25


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tl.load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(4))))


@pytest.mark.filterwarnings("ignore::tokenlens.errors.DamagedShardWarning")
@pytest.mark.parametrize("gone", [True, False])
def test_only_the_damaged_shard_of_results_is_made_again(vlm, tmp_path, monkeypatch, gone):
    import tokenlens.evaluation.running.generation as asking

    samples, out = counted_samples(70), tmp_path / "run"
    first = tl.evaluate(vlm, samples, max_new_tokens=1, out=out).rows
    shard, other = out / "shard-00001.parquet", (out / "shard-00000.parquet").read_bytes()
    manifest = (out / "manifest.json").read_bytes()
    if gone:
        shard.unlink()
    else:
        content = bytearray(shard.read_bytes())
        content[200] ^= 1
        shard.write_bytes(content)
    with pytest.raises(ResultsError, match=r"redoes this shard alone"):
        tl.Results.load(out)
    asked, answer = [], asking.answer
    monkeypatch.setattr(
        asking,
        "answer",
        lambda vlm, batch, *a, **o: asked.append(len(batch.samples)) or answer(vlm, batch, *a, **o),
    )
    again = tl.evaluate(vlm, samples, max_new_tokens=1, out=out).rows
    assert sum(asked[1:]) == 6  # after the warm-up
    assert again.drop(columns=["prefill_s", "decode_s"]).equals(
        first.drop(columns=["prefill_s", "decode_s"])
    )
    assert (out / "shard-00000.parquet").read_bytes() == other
    assert (out / "manifest.json").read_bytes() == manifest


def test_a_manifest_without_a_key_is_one_line(tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema": 1, "kind": "profile", "identity": {}}')
    with pytest.raises(ProfileError, match=r"manifest\.json: complete: is missing"):
        tl.Profile(tmp_path)
    (tmp_path / "manifest.json").write_text(
        '{"schema": 1, "kind": "profile", "identity": {}, "complete": "no", "shard_rows": 1}'
    )
    with pytest.raises(ProfileError, match=r"complete: got 'no', expected true or false"):
        tl.Profile(tmp_path)


def test_a_schedule_replaces_nothing_but_schedules(tmp_path):
    manifest = tmp_path / "run" / "manifest.json"
    manifest.parent.mkdir()
    write_sealed(manifest, {"schema": 1, "kind": "profile"})
    link, notes = tmp_path / "link.json", tmp_path / "notes.txt"
    link.symlink_to(manifest)
    notes.write_text("mine")
    for path in (manifest, link, notes, tmp_path / "run", tmp_path / "run" / "out.json"):
        with pytest.raises(OutputError, match=r"choose|name one"):
            schedule().save(path)
    assert notes.read_text() == "mine"
    assert link.is_symlink()
    whole = tmp_path / "out.json"
    schedule().save(whole)
    linked = tmp_path / "linked.json"
    linked.symlink_to(whole)
    schedule().replace(method="other").save(linked)
    assert linked.is_symlink()
    assert Schedule.load(whole).method == "other"


def test_a_warning_class_is_public():
    assert issubclass(DamagedShardWarning, UserWarning)
