"""Merged tokens' changes are those of the engine, and true ones those of the unpruned model."""

import numpy as np
import pytest
import torch
from PIL import Image

import tokenlens as tl
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.analyses import merged_change
from tokenlens.analyses.studies import merged_offset
from tokenlens.analyses.studies.merged_offset import (
    MEASURES,
    compute,
    markdown,
    plot,
    sizes,
    summary,
)
from tokenlens.errors import ScheduleError
from tokenlens.models.structure import decoder_layers
from tokenlens.pruning.disposal import BypassedTokens
from tokenlens.samples.sample import Sample


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tl.load(str(save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(8))))


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    questions = ("how many are there ?", "where is the red circle ?", "is there a star in it ?")
    return [
        Sample(
            id=str(index),
            image=Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)),
            question=question,
            answers=("1",),
        )
        for index, (question, size) in enumerate(
            zip(questions, [(24, 24, 3), (24, 16, 3), (16, 24, 3)], strict=True)
        )
    ]


@pytest.fixture(scope="module")
def schedule(vlm):
    return tl.Schedule.preset("swiftvlm", vlm, budget=0.55, layers=[2, 5, 7], n_visual=36)


@pytest.fixture(scope="module")
def table(vlm, samples, schedule):
    return compute(vlm, samples, schedule, batch_size=3)


def test_offsets_are_those_by_which_the_engine_aligns(vlm, samples, schedule, table, monkeypatch):
    """Taken from inside the engine, sample by sample, beside the unpruned model's own states."""
    whole: dict[int, torch.Tensor] = {}
    seen: list[tuple] = []
    rejoin = BypassedTokens.rejoin

    def watched(self, going):
        seen.append((self, going))
        return rejoin(self, going)

    monkeypatch.setattr(BypassedTokens, "rejoin", watched)
    for sample in samples:
        inputs = vlm.prepare(sample.open_image(), sample.question)
        handles = [
            decoder_layers(vlm.model)[layer - 1].register_forward_pre_hook(
                lambda _m, args, kwargs, layer=layer: whole.update(
                    {layer: (args[0] if args else kwargs["hidden_states"])[0]}
                ),
                with_kwargs=True,
            )
            for layer in (3, 5)
        ]
        with torch.no_grad():
            vlm.model(**inputs)
            for handle in handles:
                handle.remove()
            seen.clear()
            with tl.prune(vlm, schedule):
                vlm.model(**inputs)
        aside, going = seen[0]
        then = aside.groups.merged.hidden[0]
        offset = going.hidden[0][going.slots.stand_in[0]] - then
        rest = aside.tokens.slots.index[0]
        change = whole[5][rest] - whole[3][rest]
        member_of = aside.groups.member_of[0]
        mean = torch.stack([change[member_of == g].mean(0) for g in range(len(then))])
        expected = torch.nn.functional.cosine_similarity(offset, mean)
        found = table[table["sample"] == sample.id]
        assert found["members"].tolist() == member_of.bincount().tolist()
        np.testing.assert_allclose(found["cosine"], expected, atol=1e-4)
        error = (offset - mean).norm(dim=1) / mean.norm(dim=1)
        np.testing.assert_allclose(found["error"], error, atol=1e-4)


def test_a_batch_gives_what_its_samples_give_alone(vlm, samples, schedule, table):
    alone = compute(vlm, samples, schedule, batch_size=1)
    names = ["cosine", "error", "left", "left_mean", "alike"]
    np.testing.assert_allclose(table[names], alone[names], atol=1e-4)
    swapped = alone.iloc[::-1]
    assert np.abs(table["cosine"].to_numpy() - swapped["cosine"].to_numpy()).max() > 1e-2


def test_layers_that_change_a_token_by_itself_make_the_offset_of_a_lone_seed_exact(vlm, samples):
    """With every token its own group, and no tokens but those seen before, Δ is the true change."""
    stage = {"when": "after", "score_layer": 2, "keep": 0.3, "disposal": "bypass", "merge": 1.0}
    last = {"when": "before", "score_layer": 4, "keep": 0.3, "disposal": "drop"}
    model = {"architecture": "Qwen2VLForConditionalGeneration", "layers": 8}
    exact = tl.Schedule(schema=1, method="test", model=model, stages=[stage, last])
    table = compute(vlm, samples[:1], exact)
    assert (table["members"] == 1).all()
    np.testing.assert_allclose(table["cosine"], 1, atol=1e-5)
    assert table["error"].max() < 1e-4
    assert table["error_other"].min() > 1e-2


def test_summary_and_sizes_are_means_over_samples_of_groups(table):
    means = table.groupby("sample")[list(MEASURES)].mean()
    found = summary(table).set_index("measure")
    assert found.index.to_list() == list(MEASURES)
    np.testing.assert_allclose(found["mean"], means.mean()[found.index])
    assert (found["low"] <= found["mean"]).all()
    assert (found["mean"] <= found["high"]).all()
    size = sizes(table)
    assert size["groups"] == len(table) / 3
    assert size["least"] <= size["median"] <= size["most"]


def test_markdown_and_figure_have_a_part_per_table(table):
    tables = {"33 %": table, "22 %": table}
    lines = markdown(tables).splitlines()
    assert len(lines) == 2 + len(MEASURES) + 3
    assert {line.count("|") for line in lines} == {4}
    assert len(plot(tables).axes) == 2 * 3
    single = table[table["sample"] == "0"].iloc[:1].assign(cosine_other=np.nan)
    assert "\N{EN DASH}" in markdown({"one": single})


def test_a_schedule_that_merges_nothing_is_refused(vlm, samples):
    for change in ({"merge": 0}, {"disposal": "drop", "merge": 0}):
        stages = list(tl.Schedule.preset("swiftvlm", vlm, budget=0.6, layers=[2, 5]).stages)
        stages[0] = stages[0].model_copy(update=change)
        schedule = tl.Schedule.preset("swiftvlm", vlm, budget=0.6, layers=[2, 5])
        schedule = schedule.replace(stages=stages)
        with pytest.raises(ScheduleError, match="no token is aligned"):
            merged_offset.compute(vlm, samples, schedule)


def test_the_picture_s_groups_are_those_of_the_numbers(vlm, samples, schedule, table):
    frame = merged_change.compute(vlm, samples[0], schedule)
    members = frame[frame["kind"] == merged_change.MEMBER]
    counts = members["group"].value_counts().sort_index()
    there = table[table["sample"] == samples[0].id]["members"]
    assert counts.tolist() == sorted(there, reverse=True)
    means = members.groupby("group")[["x", "y"]].mean()
    drawn = frame[frame["kind"] == merged_change.MEAN].set_index("group").sort_index()
    np.testing.assert_allclose(drawn[["x", "y"]], means, atol=1e-9)
    merged = frame[frame["kind"] == merged_change.MERGED].set_index("group").sort_index()
    assert not np.allclose(merged[["x", "y"]], means, atol=1e-6)  # the control
    assert members[["x0", "y0", "x1", "y1"]].notna().all(axis=None)
    with pytest.raises(ScheduleError, match="so no token is aligned"):
        merged_change.compute(vlm, samples[0], tl.Schedule.preset("fastv", vlm, budget=0.5))
