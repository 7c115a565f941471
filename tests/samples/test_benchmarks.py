"""The registry of benchmarks, their addresses, and what every one of them must keep."""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tokenlens as tl
from tests.conftest import Ended
from tests.support.benchmark_files import pope, pope_hub
from tests.support.grading import graded
from tests.test_public_names import loaded_by
from tokenlens.errors import SampleError
from tokenlens.evaluation.metrics.sample_metrics import METRICS
from tokenlens.evaluation.metrics.set_metrics import SET_METRICS
from tokenlens.samples import benchmarks as room
from tokenlens.samples.benchmarks import BENCHMARKS, Address, find_benchmark, tables


def test_the_registry_is_what_the_files_hold() -> None:
    held = {}
    for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
        for benchmark in getattr(importlib.import_module(module.name), "BENCHMARKS", ()):
            held[benchmark.name] = module.name
    assert held == dict(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_metric(name: str) -> None:
    assert find_benchmark(name).metric in METRICS
    assert set(SET_METRICS) <= set(METRICS)


def test_readers_are_imported_when_asked_for() -> None:
    code = "from tokenlens.samples.benchmarks import BENCHMARKS"
    assert not loaded_by(code) & {"datasets", "torch", "transformers", "pandas"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("pop:somewhere", ["no benchmark 'pop'", "did you mean 'pope'"]),
        ("pope:nowhere", ["nowhere is no directory and no hub id", "pope:lmms-lab/POPE"]),
        ("pope:here", ["here is no directory", "pope:DIRECTORY"]),
        ("pope:folder", ["holds no file of POPE's random", "coco_pope_random.json"]),
        ("nothing", ["no data set", "pope:DIRECTORY"]),
    ],
)
def test_wrong_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("a file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SampleError) as caught:
        tl.load_samples(data)
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_exists_under_a_name_with_a_colon_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "pope:data"
    folder.mkdir()
    assert Address.of(str(folder)) is None
    assert Address.of("scenes") is Address.of("C:\\data\\scenes.jsonl") is None


@pytest.mark.usefixtures("tables")
def test_hub_ids_are_loaded_by_id_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    asked: list[tuple[str, dict[str, Any]]] = []
    load = datasets.load_dataset
    folder = pope_hub(tmp_path)

    def recorded(source: str, **options: Any) -> Any:
        asked.append((source, options))
        return load(str(folder), **options)

    monkeypatch.setattr(datasets, "load_dataset", recorded)
    samples = tl.load_samples("pope:lmms-lab/POPE", limit=3)
    assert asked == [("lmms-lab/POPE", {"name": None, "split": "test"})]
    assert samples.source == "pope:lmms-lab/POPE"
    assert str(samples[0].image) == "lmms-lab/POPE test row 0"


@pytest.mark.usefixtures("tables")
def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach the\nhub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(SampleError, match=r"lmms-lab/POPE test: cannot be loaded: .*the hub$"):
        tl.load_samples("pope:lmms-lab/POPE")


@pytest.mark.usefixtures("tables")
def test_pictures_of_a_table_are_not_opened_before_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    picture = tables.TablePicture.read

    def counted(self: tables.TablePicture) -> bytes:
        read.append(self.index)
        return picture(self)

    monkeypatch.setattr(tables.TablePicture, "read", counted)
    samples = tl.load_samples(f"pope:{pope_hub(tmp_path)}", limit=3)
    assert read == [0, 2, 4]  # the headers of those that are taken
    samples[1].open_image()
    assert set(read[3:]) == {2}


def test_the_hash_sees_what_is_asked_and_the_pictures(tmp_path: Path) -> None:
    from tests.support.benchmark_files import picture

    data = f"pope:{pope(tmp_path)}"
    before = tl.load_samples(data)
    assert tl.load_samples(data).hash == before.hash
    assert tl.load_samples(data, limit=3).hash != before.hash
    picture(tmp_path / "val2014" / "b.jpg", size=(30, 30))
    assert tl.load_samples(data).hash != before.hash


def test_the_command_lists_all(command: Callable[..., Ended]) -> None:
    ended = command("benchmarks")
    assert ended.code == 0
    for name in BENCHMARKS:
        assert f"{name}:" in ended.out
        assert find_benchmark(name).hub_id in ended.out


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    from tokenlens.evaluation.metrics.sample_metrics import find_metric

    sample = tl.Sample("s", Path("s.png"), "what?", metric="vqaa")
    with pytest.raises(SampleError, match="did you mean 'vqa'"):
        find_metric(sample)


def test_a_manifest_may_name_its_metric(tmp_path: Path) -> None:
    from tests.support.benchmark_files import picture, write_lines

    picture(tmp_path / "p.png")
    row = {"id": "1", "image": "p.png", "question": "how many?", "answer": ["2"] * 3 + ["3"] * 7}
    data = write_lines(tmp_path / "data.jsonl", [row, {**row, "id": "2", "metric": "vqa"}])
    scores = graded(tl.load_samples(data), ["two", "two"])["score"].to_list()
    assert scores == pytest.approx([0, 0.9])


def test_results_of_before_there_were_metrics_still_load(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from tests.support import synthetic
    from tokenlens.evaluation.running.results import Results
    from tokenlens.probing.sample_columns import SEVERAL_COLUMNS

    samples = [synthetic.sample(index, tmp_path / "pictures") for index in range(3)]
    folder = synthetic.write_results(tmp_path / "results", samples)
    shards = sorted(folder.rglob("*.parquet"))
    for shard in shards:
        older = pq.read_table(shard).drop_columns(["metric", "group", *SEVERAL_COLUMNS])
        pq.write_table(older.replace_schema_metadata(None), shard)
    assert Results.load(shards[0].parent).metrics["figures"] == {}
