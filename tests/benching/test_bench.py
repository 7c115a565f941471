"""The bench: what it counts, how its file goes on, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tokenlens.analyses.bench_speed import compute, draw
from tokenlens.benching import bench as benching
from tokenlens.benching.bench import missing_cells, run_bench
from tokenlens.benching.comparing import ratios
from tokenlens.benching.records import Bench, markdown
from tokenlens.benching.request import SHAPES, Request, counts, names
from tokenlens.benching.shapes import Scaled
from tokenlens.errors import BudgetError, OptionError, ResultsError, ScheduleError
from tokenlens.methods import find_method
from tokenlens.schedule import ModelRef

SMALL = Request(
    model=None, like="qwen2-vl-2b", layers=6, width=128, methods=("swiftvlm", "stride"),
    budgets=("60%",), batches=(1,), tokens=(64,), text=16, dtype="float32", device="cpu", rounds=2,
    decode=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return run_bench(SMALL, tmp_path_factory.mktemp("bench") / "bench.json", lambda cell: None)


def test_every_cell_has_all_its_parts(small: Bench) -> None:
    assert [row["method"] for row in small.rows] == ["swiftvlm", "stride"]
    for row in small.rows:
        assert (row["visual"], row["text"], row["estimate"]) == (64, 16, False)
        assert set(row["seconds"]) == {"unpruned", "pruned", "engine-free"}
        assert set(row["seconds"]["pruned"]) == {"prefill", "decode"}
        assert row["tower_s"] > 0
        assert all(
            len(turns) == SMALL.rounds and min(turns) > 0
            for arm in row["seconds"].values()
            for turns in arm.values()
        )
        assert 0.2 < row["macs"]["pruned"] / row["macs"]["unpruned"] < 0.9
        assert row["kv_bytes"]["pruned"] < row["kv_bytes"]["unpruned"]
        assert {"prefill", "decode", "efficiency", "engine-free efficiency"} <= set(row["ratios"])


def test_efficiency_is_the_saving_of_time_beside_that_of_macs() -> None:
    slow, fast = [{"prefill": 3.0}] * 3, [{"prefill": 1.5}] * 3
    found = ratios({"unpruned": slow, "pruned": fast, "engine-free": fast}, 0.25)
    assert found["efficiency"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert found["engine-free efficiency"]["median"] == 0.5
    assert ratios({"unpruned": slow, "pruned": fast}, 0.25, 3.0)["whole"]["median"] == 0.75


def test_a_finished_file_is_read_and_an_unfinished_one_continued(
    small: Bench, tmp_path: Path
) -> None:
    asked: list[str] = []
    again = run_bench(SMALL, small.path, lambda cell: asked.append(cell.method))
    assert (asked, again.rows) == ([], small.rows)
    part = Bench(tmp_path / "part.json", small.identity, [])
    part.add(next(SMALL.cells()), {key: small.rows[0][key] for key in small.rows[0]})
    whole = run_bench(SMALL, part.path, lambda cell: asked.append(cell.method))
    assert asked == ["stride"]
    assert whole.rows[0] == small.rows[0]


def test_files_of_other_options_and_damaged_ones_are_refused(small: Bench, tmp_path: Path) -> None:
    other = dataclasses.replace(SMALL, rounds=3)
    with pytest.raises(ResultsError, match="with rounds"):
        run_bench(other, small.path, lambda cell: None)
    damaged = tmp_path / "damaged.json"
    damaged.write_text(small.path.read_text().replace("swiftvlm", "swiftvln"))
    with pytest.raises(ResultsError, match="damaged"):
        Bench.read(damaged)
    damaged.write_text(json.dumps({"kind": "profile"}))
    with pytest.raises(ResultsError, match="is no bench"):
        Bench.read(damaged)


@pytest.mark.parametrize("like", [None, "qwen2-vl-2b"])
def test_a_method_of_smaller_pictures_is_refused(tmp_path: Path, like: str | None) -> None:
    """On the inputs of the others it prunes nothing, and was told to cost as much."""
    shape = {"model": "tiny-qwen2-vl", "like": None, "layers": None, "width": None, "tokens": ()}
    smaller = dataclasses.replace(SMALL, methods=("downsample",), **({} if like else shape))
    with pytest.raises(OptionError, match="--methods: downsample shrinks pictures"):
        run_bench(smaller, tmp_path / "bench.json", lambda cell: None)
    assert not (tmp_path / "bench.json").exists()


def test_weights_that_do_not_fit_are_estimated_and_said_to_be(
    small: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benching, "free_bytes", lambda device: 1000)
    found = run_bench(SMALL, tmp_path / "bench.json", lambda cell: None)
    for row, measured in zip(found.rows, small.rows, strict=True):
        assert row["estimate"]
        assert "seconds" not in row
        assert row["macs"] == pytest.approx(measured["macs"], rel=0.02)
        assert row["kv_bytes"] == measured["kv_bytes"]
    assert markdown(found).count("estimate") == 2
    assert list(draw(found, tmp_path / "bench.json")) == []


def test_table_and_plot_have_every_arm(small: Bench) -> None:
    assert markdown(small).count("\n") == 3
    assert len(compute(small)) == 4
    (drawn,) = draw(small, small.path)
    assert b"<svg" in drawn.read_bytes()


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_runs_scaled_down(name: str) -> None:
    shape = Scaled.of(name, layers=3, width=128)
    model = shape.build(16, torch.device("cpu"), torch.float32)
    inputs = shape.inputs(model, 2, 16, 8)
    with torch.inference_mode():
        logits = model(**inputs, logits_to_keep=1).logits
    assert logits.shape[:2] == (2, 1)
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize(
    ("name", "billions"), [("qwen2-vl-2b", 2.4), ("qwen2-vl-7b", 8.3), ("llava-1.5-7b", 7.06)]
)
def test_shapes_have_the_published_size(name: str, billions: float) -> None:
    """The published parameter counts; the 2B ties its head to its embeddings."""
    model = Scaled.of(name).build(576, torch.device("meta"), torch.bfloat16)
    found = sum(one.numel() for one in model.parameters())
    tied = 151_936 * 1536 if name == "qwen2-vl-2b" else 0
    assert (found - tied) / 1e9 == pytest.approx(billions, rel=0.1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"like": "qwen3"}, "--like: got 'qwen3', expected"),
        ({"model": "x"}, "--like and --model"),
        ({"tokens": ()}, "--tokens: is missing"),
        ({"dtype": "float17"}, "--dtype: got 'float17'"),
        ({"like": None, "model": "x"}, "--layers: is for random weights"),
    ],
)
def test_nonsense_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        dataclasses.replace(SMALL, **change).check()


def test_a_budget_out_of_reach_is_refused_before_anything_is_timed(tmp_path: Path) -> None:
    both = dataclasses.replace(SMALL, methods=("stride", "swiftvlm"), budgets=("16%",))
    told: list[str] = []
    path = tmp_path / "x.json"
    for ask in (lambda: missing_cells(both, path), lambda: run_bench(both, path, told.append)):
        with pytest.raises(BudgetError, match=r"\Aswiftvlm 16%, 64 tokens.* out of reach"):
            ask()
    assert not told
    assert not path.exists()


def test_so_is_one_of_a_model_with_weights(tmp_path: Path) -> None:
    own = dataclasses.replace(
        SMALL, model="tiny-qwen2-vl", like=None, layers=None, width=None, tokens=(),
        methods=("stride", "swiftvlm"), budgets=("10%",),
    )  # fmt: skip
    for ask in (missing_cells, lambda one, path: run_bench(one, path, pytest.fail)):
        with pytest.raises(BudgetError, match=r"\Aswiftvlm 10%, batch 1: .* out of reach"):
            ask(own, tmp_path / "x.json")


def test_a_shape_with_fewer_layers_is_pruned_at_the_depth_of_the_whole() -> None:
    whole = find_method("swiftvlm").own_layers(28)
    assert find_method("swiftvlm").at_depth(whole, 28, 28) == whole
    assert find_method("swiftvlm").at_depth(whole, 8, 28) == [1, 4, 5]  # whole: 3, 9, 12 of 28
    assert find_method("swiftvlm").at_depth(whole, 56, 28) == [6, 19, 25]
    assert find_method("pdrop").at_depth([8, 15, 22], 8, 28) == [3, 5, 7]
    assert find_method("fastv").at_depth([2], 4, 28) == [1]
    assert find_method("stride").at_depth([0], 8, 28) == [0]


@pytest.mark.parametrize("method", ["swiftvlm", "drop", "freeze", "feather", "sparsevlm", "pdrop"])
@pytest.mark.parametrize("layers", [4, 5, 6, 7])
def test_no_two_stages_of_a_few_layers_are_in_one_place(method: str, layers: int) -> None:
    few = find_method(method)
    placed = few.at_depth(few.own_layers(24), layers, 24)
    model = ModelRef(architecture="A", layers=layers)
    stages = few.build(model, budget="70%", layers=placed, n_visual=144).stages
    assert len(stages) == len(few.own_layers(24))


def test_a_method_that_reads_the_tower_runs_it_in_every_turn(tmp_path: Path) -> None:
    both = dataclasses.replace(SMALL, like="llava-1.5-7b", methods=("visionzip",), rounds=2)
    (row,) = run_bench(both, tmp_path / "x.json", lambda cell: None).rows
    assert min(row["seconds"]["pruned"]["tower"]) > 0
    assert "tower" not in row["seconds"]["unpruned"]


def test_methods_and_sizes_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match="swiftvlm"):
        dataclasses.replace(SMALL, methods=("swiftvl",)).check()
    with pytest.raises(OptionError, match="expected squares"):
        run_bench(dataclasses.replace(SMALL, tokens=(60,)), tmp_path / "x.json", lambda cell: None)
    with pytest.raises(OptionError, match="a multiple of 128"):
        Scaled.of("qwen2-vl-2b", width=100)
    with pytest.raises(OptionError, match="--batch: got '0'"):
        counts("--batch", "1,0")
    with pytest.raises(OptionError, match="--methods"):
        names("--methods", "stride,stride")
