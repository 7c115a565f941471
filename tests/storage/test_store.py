import errno
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlens.errors import OutputError, ProfileError, ResultsError
from tokenlens.storage.shards import MANIFEST, ShardReader, ShardStore

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "score": pa.float64(),
        "values": pa.list_(pa.float32()),
        "outlines": pa.list_(pa.list_(pa.float64())),
    }
)
IDENTITY = {"model": {"id": "a", "layers": 4}, "options": {"limit": None, "sizes": (1, 2)}}


def row(index):
    values = np.random.default_rng(index).random(index % 5, dtype=np.float32)
    outlines = [[0.5, index]] if index % 2 else []
    return {"id": f"s{index}", "score": index / 3, "values": values, "outlines": outlines}


def store_at(directory, identity=IDENTITY, kind="profile", shard_rows=4, **info):
    return ShardStore.open(directory, kind, identity, SCHEMA, info=info, shard_rows=shard_rows)


def fill(directory, until, finish=False):
    with store_at(directory) as store:
        for index in range(store.count, until):
            store.append(row(index))
        if finish:
            store.finish({"wall_s": 1.0})


def shards(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.parquet"))}


def ids(directory):
    return [r["id"] for r in ShardReader(directory, "profile").rows()]


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_rows_come_back_as_they_went_in(tmp_path):
    fill(tmp_path / "run", 10, finish=True)
    reader = ShardReader(tmp_path / "run", "profile")
    assert (len(reader), reader.complete, reader.counts) == (10, True, [4, 4, 2])
    assert reader.identity == json.loads(json.dumps(IDENTITY))
    for index, found in enumerate(reader.rows()):
        expected = row(index)
        values = found.pop("values")
        assert np.array_equal(values, expected.pop("values"))
        assert values.dtype == np.float32
        assert found == expected


def test_columns_can_be_chosen(tmp_path):
    fill(tmp_path / "run", 6)
    reader = ShardReader(tmp_path / "run", "profile")
    assert list(reader.rows(["id", "score"]))[5] == {"id": "s5", "score": 5 / 3}
    expected = pd.DataFrame({"score": [i / 3 for i in range(6)]})
    pd.testing.assert_frame_equal(reader.table(["score"]), expected)
    assert ShardReader(tmp_path / "run", "profile").table().shape == (6, 4)


def test_an_empty_store_reads_as_no_rows(tmp_path):
    fill(tmp_path / "run", 0)
    reader = ShardReader(tmp_path / "run", "profile")
    assert (len(reader), list(reader.rows()), len(reader.table(["id"]))) == (0, [], 0)


def test_the_manifest_is_written_first_with_versions(tmp_path):
    with store_at(tmp_path / "run", kind="results", layers=4):
        manifest = json.loads((tmp_path / "run" / MANIFEST).read_text())
    assert (manifest["kind"], manifest["complete"], manifest["layers"]) == ("results", False, 4)
    assert {"tokenlens", "torch", "transformers", "python"} <= set(manifest["versions"])
    assert ShardReader(tmp_path / "run", "results").shards == []


@settings(max_examples=25, deadline=None)
@given(stops=st.lists(st.integers(0, 11), max_size=5))
def test_interrupted_anywhere_it_ends_the_same(tmp_path_factory, stops):
    whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    fill(whole, 11, finish=True)
    for stop in stops:
        fill(parts, stop)
    fill(parts, 11, finish=True)
    assert shards(parts) == shards(whole)
    manifests = [json.loads((path / MANIFEST).read_text()) for path in (whole, parts)]
    assert manifests[0] == manifests[1]


def test_an_error_or_interrupt_keeps_the_open_rows(tmp_path):
    def fail(error):
        with store_at(tmp_path / error.__name__) as store:
            for index in range(6):
                store.append(row(index))
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
        assert ids(tmp_path / error.__name__) == [f"s{i}" for i in range(6)]


def test_a_finished_store_stays_finished(tmp_path):
    fill(tmp_path / "run", 5, finish=True)
    before = (tmp_path / "run" / MANIFEST).read_bytes()
    with store_at(tmp_path / "run") as store:
        assert (store.complete, store.count) == (True, 5)
    assert (tmp_path / "run" / MANIFEST).read_bytes() == before


def test_a_full_disk_loses_nothing_written_before(tmp_path, monkeypatch):
    fill(tmp_path / "whole", 11, finish=True)
    run = tmp_path / "run"
    fill(run, 6)
    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full_disk)
        with pytest.raises(OutputError, match=r"cannot write .*shard-00001.* No space left"):
            fill(run, 11)
    assert ids(run) == [f"s{i}" for i in range(6)]
    assert sorted(p.name for p in run.iterdir()) == [
        MANIFEST,
        "shard-00000.parquet",
        "shard-00001.parquet",
    ]
    fill(run, 11, finish=True)
    assert shards(run) == shards(tmp_path / "whole")


def test_what_a_killed_write_left_behind_is_cleared(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".manifest.json.abc.tmp").write_text("{")
    fill(run, 3)
    (run / ".shard-00000.parquet.xyz.tmp").write_bytes(b"PAR1")
    fill(run, 5, finish=True)
    assert sorted(p.name for p in run.iterdir()) == [
        MANIFEST,
        "shard-00000.parquet",
        "shard-00001.parquet",
    ]


@pytest.mark.parametrize(
    ("identity", "named"),
    [
        ({"model": {"id": "b", "layers": 4}, "options": IDENTITY["options"]}, "model.id is 'a'"),
        ({"model": {"id": "a", "layers": 9}, "options": IDENTITY["options"]}, "model.layers is 4"),
        ({"model": IDENTITY["model"], "options": {"limit": 7, "sizes": (1, 2)}}, "options.limit"),
        ({"model": IDENTITY["model"]}, "options.sizes"),
    ],
)
def test_another_run_is_refused_with_what_differs(tmp_path, identity, named):
    fill(tmp_path / "run", 6)
    before = shards(tmp_path / "run")
    with pytest.raises(OutputError, match=named) as error:
        store_at(tmp_path / "run", identity)
    assert "\n" not in str(error.value)
    assert shards(tmp_path / "run") == before


def test_foreign_places_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty and holds no profile"):
        store_at(tmp_path)
    with pytest.raises(OutputError, match="is a file"):
        store_at(tmp_path / "notes.txt")
    with pytest.raises(OutputError, match="cannot write"):
        store_at(tmp_path / "notes.txt" / "run")
    for text in ("[]", '{"name": "an app"}', "{"):
        (tmp_path / "foreign").mkdir(exist_ok=True)
        (tmp_path / "foreign" / MANIFEST).write_text(text)
        with pytest.raises(OutputError, match=MANIFEST):
            store_at(tmp_path / "foreign")
    fill(tmp_path / "run", 2)
    with pytest.raises(OutputError, match="kind profile, expected schema 1 and kind results"):
        store_at(tmp_path / "run", kind="results")


def test_reading_what_is_not_there_or_damaged(tmp_path):
    with pytest.raises(ProfileError, match="make one with `tokenlens profile`"):
        ShardReader(tmp_path, "profile")
    with pytest.raises(ResultsError, match="make one with `tokenlens run`"):
        ShardReader(tmp_path, "results")
    run = tmp_path / "run"
    fill(run, 11, finish=True)
    shard = run / "shard-00001.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:40])
    with pytest.raises(ProfileError, match=r"cannot read .*shard-00001"):
        ShardReader(run, "profile")
    shard.unlink()
    with pytest.raises(ProfileError, match=r"expected shard-00001\.parquet with 4 rows"):
        ShardReader(run, "profile")
    shard.write_bytes(content)
    (run / "shard-00002.parquet").unlink()
    with pytest.raises(ProfileError, match=r"holds 8 rows, its manifest\.json says 11"):
        ShardReader(run, "profile")


def test_a_row_of_other_columns_is_a_mistake(tmp_path):
    with store_at(tmp_path / "run") as store, pytest.raises(ValueError, match="columns"):
        store.append({"id": "x"})
