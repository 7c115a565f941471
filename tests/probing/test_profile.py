import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import tokenlens.probing.profile as profile_module
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.errors import OutputError, ProbeError, ProfileError, SampleError
from tokenlens.measures.regions import region_tokens
from tokenlens.models.greedy import greedy_config
from tokenlens.models.loading import load
from tokenlens.probing.profile import Profile
from tokenlens.probing.profiling import estimate_profile, profile_samples
from tokenlens.probing.recording import Recording, probe
from tokenlens.samples.dataset import load_samples

COUNT = 150
SIZES = [(24, 24), (24, 16), (16, 20)]


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    return save_model_directory(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def vlm(model_directory):
    return load(str(model_directory))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Questions of several lengths on noise of several sizes; a box, a polygon, or no region."""
    folder = tmp_path_factory.mktemp("samples")
    lines = []
    for index in range(COUNT):
        size = SIZES[index % len(SIZES)]
        pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        line = {
            "id": f"s{index}",
            "image": f"{index}.png",
            "question": "where is the red circle ?" + " red blue" * (index % 4),
            "answer": "A",
            "task": ["localisation", "count"][index % 2],
        }
        if index % 3 == 0:
            line["boxes"] = [[0, 0, 9.5, 8]]
        elif index % 3 == 1:
            line["polygons"] = [[[2, 2], [14, 2], [14, 12]]]
        lines.append(json.dumps(line))
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def samples(manifest):
    return load_samples(manifest)


@pytest.fixture(scope="module")
def whole(vlm, samples, tmp_path_factory):
    """An uninterrupted profile."""
    return profile_samples(vlm, samples, tmp_path_factory.mktemp("whole") / "run")


def content(directory):
    """All that must be equal: the shards' bytes, and the manifest without times."""
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["wall_s"]
    shards = {path.name: path.read_bytes() for path in directory.glob("*.parquet")}
    return manifest, shards


def broken_after(samples, calls):
    """`samples`, but asking for the one after so many is Ctrl-C."""

    class Broken(type(samples)):
        def __getitem__(self, index):
            if index >= calls:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    broken = object.__new__(Broken)
    broken.__dict__.update(samples.__dict__)
    return broken


def test_rows_hold_what_the_model_saw(vlm, samples, whole):
    rows = list(whole.rows())
    assert (len(whole), whole.layers, whole.heads) == (COUNT, 4, 4)
    assert [row.id for row in rows] == [sample.id for sample in samples]
    for sample, row in list(zip(samples, rows, strict=True))[:12]:
        image = sample.open_image()
        inputs = vlm.prepare(image, sample.question)
        layout = vlm.layout(inputs)[0]
        vlm.model.set_attn_implementation("eager")
        with torch.no_grad():
            maps = vlm.model(**inputs, output_attentions=True).attentions
        vlm.model.set_attn_implementation("sdpa")
        expected = torch.stack([m[0, :, -1, layout.positions].mean(dim=0) for m in maps])
        np.testing.assert_allclose(row.importance, expected.numpy(), atol=1e-5)
        assert np.array_equal(row.positions, layout.positions.numpy())
        assert np.array_equal(row.boxes, layout.boxes.numpy())
        assert row.grid == layout.grid
        assert (row.size, row.image) == (image.size, str(sample.image))
        assert (row.task, row.question) == (sample.task, sample.question)
        assert (row.region_boxes, row.polygons) == (sample.boxes, sample.polygons)
        region = region_tokens(layout.boxes, image.size, sample.boxes, sample.polygons)
        assert np.array_equal(row.region, region)
        assert row.per_head is None
        dtypes = [array.dtype for array in (row.importance, row.boxes, row.positions, row.region)]
        assert dtypes == [np.float32, np.float32, np.int64, np.bool_]
    assert any(row.region.any() for row in rows)


def test_batch_size_does_not_matter(vlm, samples, whole, tmp_path):
    for batch_size in (1, 5):
        other = profile_samples(vlm, samples, tmp_path / str(batch_size), batch_size=batch_size)
        for one, two in zip(whole.rows(), other.rows(), strict=True):
            assert (one.id, one.grid) == (two.id, two.grid)
            assert np.array_equal(one.positions, two.positions)
            np.testing.assert_allclose(one.importance, two.importance, atol=1e-6)


def test_heads_are_stored_when_asked_for(vlm, samples, whole, tmp_path):
    profile = profile_samples(vlm, samples, tmp_path / "run", per_head=True)
    for row, plain in zip(profile.rows(), whole.rows(), strict=True):
        assert row.per_head.shape == (4, 4, len(row.positions))
        np.testing.assert_allclose(row.per_head.mean(axis=1), row.importance, atol=1e-6)
        np.testing.assert_allclose(row.importance, plain.importance, atol=1e-6)
    assert max(profile._reader.counts) < 64


def test_manifest_says_what_was_run(vlm, samples, whole):
    manifest = json.loads((whole.directory / "manifest.json").read_text())
    assert (manifest["complete"], manifest["rows"], manifest["layers"]) == (True, COUNT, 4)
    assert manifest["identity"]["model"]["id"] == vlm.id
    assert manifest["identity"]["model"]["config_hash"] == vlm.config_hash
    assert manifest["identity"]["data"]["hash"] == samples.hash
    assert {"tokenlens", "torch", "transformers"} <= set(manifest["versions"])
    assert manifest["wall_s"] > 0


@pytest.mark.parametrize("stops", [(3, 70, 71), (64,), (149,)])
def test_ctrl_c_and_go_on(vlm, samples, whole, tmp_path, stops):
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            profile_samples(vlm, broken_after(samples, stop), tmp_path / "run")
        with pytest.raises(ProfileError, match=f"unfinished: {stop // 8 * 8} of {COUNT}"):
            Profile(tmp_path / "run")
    profile_samples(vlm, samples, tmp_path / "run")
    assert content(tmp_path / "run") == content(whole.directory)


def test_a_batch_size_that_does_not_divide_the_shard(vlm, samples, tmp_path):
    """A killed run ends at a full shard, in the middle of a batch; the batch is run again whole."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    profile_samples(vlm, samples, whole, batch_size=7)
    with pytest.raises(KeyboardInterrupt):
        profile_samples(vlm, broken_after(samples, 70), run, batch_size=7)
    (run / "shard-00001.parquet").unlink()
    profile_samples(vlm, samples, run, batch_size=7)
    assert content(run) == content(whole)


PAUSE_S = 0.02
CHILD = f"""
import sys, time
from tokenlens.models.greedy import greedy_config
from tokenlens.models.loading import load
from tokenlens.probing.profiling import profile_samples
from tokenlens.samples.dataset import load_samples
from tokenlens.samples.sample import Sample
whole = Sample.open_image
Sample.open_image = lambda sample: time.sleep({PAUSE_S}) or whole(sample)
vlm, samples = load(sys.argv[1]), load_samples(sys.argv[2])
print("ready", flush=True)
profile_samples(vlm, samples, sys.argv[3])
"""


@pytest.mark.slow
def test_killed_three_times_then_finished(vlm, samples, whole, model_directory, manifest, tmp_path):
    """The child pauses before every picture, so that even three late kills come in time."""
    run = tmp_path / "run"
    moments = random.Random(0)
    latest = 0.3 * COUNT * PAUSE_S
    for _ in range(3):
        command = [sys.executable, "-c", CHILD, str(model_directory), str(manifest), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, latest))
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        assert not any(path.suffix == ".parquet" for path in run.glob(".*.parquet"))
    assert not json.loads((run / "manifest.json").read_text())["complete"]
    profile_samples(vlm, samples, run)
    assert content(run) == content(whole.directory)


def test_a_finished_profile_is_not_run_again(vlm, samples, whole, monkeypatch):
    before = content(whole.directory)
    monkeypatch.setattr(vlm.model, "forward", None)
    profile_samples(vlm, samples, whole.directory)
    assert content(whole.directory) == before


def test_a_full_disk_keeps_the_earlier_shards(vlm, samples, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    write, written = pq.write_table, []

    def filling(table, path, **options):
        if len(written) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        write(table, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", filling)
        with pytest.raises(OutputError, match=r"cannot write .*shard-00001.*No space left"):
            profile_samples(vlm, samples, run)
    assert estimate_profile(vlm, samples, run).done == 64
    profile_samples(vlm, samples, run)
    assert content(run) == content(whole.directory)


def test_a_bad_picture_in_the_middle_is_named_and_nothing_is_lost(vlm, samples, whole, tmp_path):
    picture = samples[100].image
    good = picture.read_bytes()
    picture.write_bytes(good[: len(good) // 2])
    try:
        with pytest.raises(SampleError, match=picture.name):
            profile_samples(vlm, samples, tmp_path / "run")
    finally:
        picture.write_bytes(good)
    assert estimate_profile(vlm, samples, tmp_path / "run").done == 96
    profile_samples(vlm, samples, tmp_path / "run")
    assert content(tmp_path / "run") == content(whole.directory)


@pytest.mark.parametrize("stop", [None, 100])
def test_a_changed_picture_is_not_taken_for_the_old_one(vlm, samples, whole, tmp_path, stop):
    """Of the same name and size, so that the samples' hash does not tell; one without row may."""
    run, row, free = tmp_path / "run", samples[3].image, samples[120].image
    before = {path: path.read_bytes() for path in (row, free)}
    with nullcontext() if stop is None else pytest.raises(KeyboardInterrupt):
        profile_samples(vlm, samples if stop is None else broken_after(samples, stop), run)
    try:
        Image.new("RGB", samples[3].open_image().size, "red").save(row)
        for make in (profile_samples, estimate_profile):
            with pytest.raises(OutputError, match="that of sample 's3' was changed since"):
                make(vlm, samples, run)
        row.write_bytes(before[row])
        if stop is not None:
            Image.new("RGB", samples[120].open_image().size, "red").save(free)
            profile_samples(vlm, samples, run)
            fresh = profile_samples(vlm, samples, tmp_path / "fresh")
            assert content(run) == content(fresh.directory) != content(whole.directory)
    finally:
        for path, pixels in before.items():
            path.write_bytes(pixels)


def test_importance_that_is_no_number_is_named_and_not_stored(vlm, samples, tmp_path, monkeypatch):
    """As half precision leaves it where an attention score overflows."""
    whole = Recording.importance.fget

    def overflowing(self):
        found = [one.clone() for one in whole(self)]
        found[-1][2, 0] = torch.nan
        return found

    monkeypatch.setattr(Recording, "importance", property(overflowing))
    with pytest.raises(ProbeError, match=r"sample 's\d+': the importance at layer 3 .*--dtype"):
        profile_samples(vlm, samples, tmp_path / "run")
    assert not list((tmp_path / "run").glob("shard-*"))


def test_a_sample_that_the_processor_refuses_is_named(vlm, samples, tmp_path, monkeypatch):
    prepare = vlm.prepare

    def picky(image, question, **options):
        pictures = [image] if isinstance(question, str) else image
        if any(first.getpixel((0, 0)) == odd for first, *_ in pictures):
            raise SampleError("the processor refused a sample")
        return prepare(image, question, **options)

    odd = samples[13].open_image().getpixel((0, 0))
    monkeypatch.setattr(vlm, "prepare", picky)
    with pytest.raises(SampleError, match=r"sample 's13', .*13\.png: the processor refused"):
        profile_samples(vlm, samples, tmp_path / "run")
    monkeypatch.undo()
    assert estimate_profile(vlm, samples, tmp_path / "run").done == 8


def test_another_run_is_refused(vlm, manifest, samples, whole):
    fewer = load_samples(manifest, limit=10)
    with pytest.raises(OutputError, match=r"holds another profile: its data\."):
        profile_samples(vlm, fewer, whole.directory)
    other = type(vlm).wrap(tiny_qwen2_vl(seed=3), vlm.processor, id=vlm.id)
    for run in (profile_samples, estimate_profile):
        with pytest.raises(OutputError, match=r"its model\.config_hash is"):
            run(other, samples, whole.directory)
    with pytest.raises(OutputError, match=r"its options\.per_head is False, now True"):
        profile_samples(vlm, samples, whole.directory, per_head=True)


def test_an_unwritable_place_is_refused_before_any_work(vlm, samples, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(vlm.model, "forward", None)
    with pytest.raises(OutputError, match="cannot write"):
        profile_samples(vlm, samples, tmp_path / "file" / "run")


def test_a_batch_size_below_one_is_refused(vlm, samples, tmp_path):
    with pytest.raises(ProfileError, match="batch_size is 0; expected at least 1"):
        profile_samples(vlm, samples, tmp_path / "run", batch_size=0)
    assert not (tmp_path / "run").exists()


def test_the_estimate_runs_nothing_and_writes_nothing(vlm, samples, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(vlm.model, "forward", None)
    estimate = estimate_profile(vlm, samples, tmp_path / "run")
    assert (estimate.samples, estimate.done) == (COUNT, 0)
    assert not (tmp_path / "run").exists()
    assert estimate_profile(vlm, samples, whole.directory).done == COUNT
    stored = sum(row.importance.nbytes + row.boxes.nbytes for row in whole.rows())
    assert stored / 2 < estimate.size_bytes < stored * 2


def test_a_text_only_sample_has_no_visual_tokens(whole):
    empty = np.array([], dtype=np.float32)
    first = next(whole._reader.rows())
    row = whole._row(
        first | {"positions": np.array([], dtype=np.int64), "boxes": empty, "importance": empty}
    )
    assert (row.importance.shape, row.boxes.shape, row.region.shape) == ((4, 0), (0, 4), (0,))


def test_reading_streams_one_shard_at_a_time(whole, monkeypatch):
    opened = []
    parquet = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda path: opened.append(path) or parquet(path))
    rows = Profile(whole.directory).rows()
    next(rows)
    assert [path.name for path in opened] == ["shard-00000.parquet"]


def test_a_small_profile_is_read_once_and_a_large_one_every_time(whole, monkeypatch):
    opened = []
    parquet = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda path: opened.append(path) or parquet(path))
    small = Profile(whole.directory)
    next(small.rows())  # a reader that stops keeps nothing
    first, second = list(small.rows()), list(small.rows())
    assert len(first) == len(second) == COUNT
    assert all(one is other for one, other in zip(first, second, strict=True))
    shards = len(small._reader.shards)
    assert len(opened) == 1 + shards
    monkeypatch.setattr(profile_module, "_SMALL", 0)
    large = Profile(whole.directory)
    assert [row.id for row in large.rows()] == [row.id for row in large.rows()]
    assert len(opened) == 1 + 3 * shards


def test_a_profile_of_another_importance(vlm, manifest, whole, tmp_path):
    """It says which, is no profile of attention, and an old manifest's is attention."""
    few = load_samples(manifest, limit=9)
    profile = profile_samples(vlm, few, tmp_path / "run", importance="value-weighted")
    assert profile.importance == "value-weighted"
    assert whole.importance == "attention"
    assert whole.manifest["identity"]["options"] == {"per_head": False}
    with probe(vlm, importance="value-weighted") as recording, torch.inference_mode():
        vlm.model(**vlm.prepare(few[0].open_image(), few[0].question))
    row = next(profile.rows())
    np.testing.assert_allclose(row.importance, recording.importance[0], atol=1e-6)
    assert np.abs(row.importance - next(whole.rows()).importance).max() > 1e-4
    with pytest.raises(OutputError, match=r"options\.importance"):
        profile_samples(vlm, few, tmp_path / "run")
    with pytest.raises(ProbeError, match="expected one of attention"):
        profile_samples(vlm, few, tmp_path / "other", importance="nothing")


@pytest.mark.parametrize("queries", ["text", "generated"])
@pytest.mark.parametrize("importance", ["attention", "value-weighted"])
def test_rows_of_other_queries_are_stored(vlm, manifest, whole, tmp_path, queries, importance):
    """Beside the last prompt token's, which stays what it was; each sample equals the probe's."""
    few = load_samples(manifest, limit=9)
    options = {"importance": importance, "queries": queries, "per_head": True}
    profile = profile_samples(vlm, few, tmp_path / "run", max_new_tokens=3, batch_size=4, **options)
    assert (profile.queries, whole.queries) == (queries, "last")
    for sample, row in zip(few, profile.rows(), strict=True):
        inputs = vlm.prepare(sample.open_image(), sample.question)
        with probe(vlm, **options) as recording, torch.inference_mode():
            vlm.model.generate(**inputs, generation_config=greedy_config(vlm, 3))
        assert row.queries.tolist() == recording.queries[0].tolist()
        assert list(row.query_text) == recording.tokens[0]
        expected = recording.importance[0]
        np.testing.assert_allclose(row.query_importance, expected, atol=1e-5)
        np.testing.assert_allclose(row.query_per_head, recording.per_head[0], atol=1e-5)
        place = -1 if queries == "text" else 0
        np.testing.assert_allclose(row.importance, expected[:, place], atol=1e-5)
        if expected.shape[1] > 1:  # the control: another query's row is another
            other = expected[:, 0 if queries == "text" else -1].numpy()
            assert np.abs(row.importance - other).max() > 1e-4
    if queries == "text" and importance == "attention":
        attention = profile_samples(vlm, few, tmp_path / "plain", batch_size=4)
        for row, plain in zip(profile.rows(), attention.rows(), strict=True):
            assert np.array_equal(row.importance, plain.importance)
            assert plain.query_importance is plain.queries is None


def test_a_profile_of_queries_goes_on_and_says_its_command(vlm, manifest, tmp_path):
    few = load_samples(manifest, limit=9)
    whole = profile_samples(vlm, few, tmp_path / "whole", queries="generated", max_new_tokens=2)
    estimate = estimate_profile(vlm, few, whole.directory, queries="generated", max_new_tokens=2)
    assert (estimate.samples, estimate.done) == (9, 9)
    with pytest.raises(OutputError, match=r"options\.queries"):
        profile_samples(vlm, few, whole.directory)
    for options, words in (
        ({"queries": "all"}, "queries: got 'all', expected one of last, text, generated"),
        ({"queries": "generated", "max_new_tokens": 0}, "expected a count from 1"),
    ):
        with pytest.raises(ProfileError, match=words):
            profile_samples(vlm, few, tmp_path / "other", **options)
    with pytest.raises(ProbeError, match="queries='last'"):
        profile_samples(vlm, few, tmp_path / "other", queries="text", importance="gradient")
    assert not (tmp_path / "other").exists()
