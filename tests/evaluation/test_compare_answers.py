"""Answer cache of a comparison: which answers are generated again, its keys, and its writers."""

import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tokenlens.evaluation.running.generation as asking_module
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.errors import DamagedAnswersWarning, OutputError, SampleError
from tokenlens.evaluation.comparing.compare import compare
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.evaluation.running.answer_cache import AnswerCache
from tokenlens.evaluation.running.cache_key import code_hash, generation_identity, sample_key
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.evaluation.running.run import Run
from tokenlens.models.loading import load
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.workers import Workers

TIMES = ["prefill_s", "decode_s"]
QUESTIONS = ("what colour ?", "how many are there ?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(6))


@pytest.fixture(scope="module")
def vlm(folder):
    return load(str(folder))


@pytest.fixture
def samples(tmp_path):
    """Six questions of two tasks about three pictures on disk."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    for index in range(3):
        Image.fromarray(pixels[index]).save(tmp_path / f"{index}.png")
    return [
        Sample(
            id=f"sample-{index}",
            image=tmp_path / f"{index // 2}.png",
            question=QUESTIONS[index % 2],
            answers=("red",),
            task=("colour", "count")[index % 2],
        )
        for index in range(6)
    ]


@pytest.fixture(scope="module")
def schedules(vlm):
    return {
        "bypass": Schedule.preset("swiftvlm", vlm, budget=0.7, layers=[3, 5], n_visual=36),
        "random": Schedule.preset("random", vlm, budget=0.4, n_visual=36),
    }


@pytest.fixture
def asked(monkeypatch):
    """How many samples each schedule answers, and in how many forward passes."""
    seen, real = {}, asking_module.answer

    def watched(vlm, batch, schedule, **options):
        name = schedule.method if schedule else "unpruned"
        passes, count = seen.get(name, (0, 0))
        seen[name] = (passes + 1, count + len(batch.samples))
        return real(vlm, batch, schedule, **options)

    monkeypatch.setattr(asking_module, "answer", watched)
    return seen


def run(vlm, samples, schedules, out, answers, **options):
    settings = {"batch_size": 4, "max_new_tokens": 3, "timed": False, **options}
    return compare(vlm, samples, schedules, out, answers=answers, **settings)


def same(first, second):
    assert list(first.arms) == list(second.arms)
    for arm in first.arms:
        pd.testing.assert_frame_equal(
            first.arms[arm].rows.drop(columns=TIMES), second.arms[arm].rows.drop(columns=TIMES)
        )


def test_another_folder_and_a_rerun_answer_nothing(vlm, samples, schedules, tmp_path, asked):
    first = run(vlm, samples, schedules, tmp_path / "a", tmp_path / "answers")
    assert asked == {"unpruned": (2, 6), "swiftvlm": (2, 6), "random": (2, 6)}
    asked.clear()
    for out in ("a", "b"):
        same(first, run(vlm, samples, schedules, tmp_path / out, tmp_path / "answers"))
    assert asked == {}


def test_a_larger_limit_an_added_method_and_a_budget_answer_what_is_missing(
    vlm, samples, schedules, tmp_path, asked
):
    some = {"random": schedules["random"]}
    run(vlm, samples[:4], some, tmp_path / "few", tmp_path / "answers")
    asked.clear()
    run(vlm, samples, some, tmp_path / "more", tmp_path / "answers")
    assert asked == {"unpruned": (1, 2), "random": (1, 2)}
    asked.clear()
    run(vlm, samples, schedules, tmp_path / "method", tmp_path / "answers")
    assert asked == {"swiftvlm": (2, 6)}
    asked.clear()
    other = {"random": Schedule.preset("random", vlm, budget=0.6, n_visual=36)}
    run(vlm, samples, other, tmp_path / "budget", tmp_path / "answers")
    assert asked == {"random": (2, 6)}


def test_what_was_kept_changes_no_result(vlm, samples, schedules, tmp_path):
    """Other batches, and answers from two runs, against one run that had nothing."""
    whole = run(vlm, samples, schedules, tmp_path / "whole", None, batch_size=1)
    run(vlm, samples[1:3], {"random": schedules["random"]}, tmp_path / "part", tmp_path / "answers")
    run(vlm, samples[4:], schedules, tmp_path / "rest", tmp_path / "answers", batch_size=2)
    same(whole, run(vlm, samples, schedules, tmp_path / "all", tmp_path / "answers", batch_size=5))
    assert whole.arms["unpruned"].rows["prediction"].nunique() > 2
    assert not (tmp_path / "whole" / ".answers").exists()


def test_right_answers_and_names_may_change(vlm, samples, schedules, tmp_path, asked):
    first = run(vlm, samples, schedules, tmp_path / "a", tmp_path / "answers")
    said = first.arms["random"].rows["prediction"]
    asked.clear()
    mended = [
        replace(sample, id=f"other-{index}", answers=(said[index],), task="new")
        for index, sample in enumerate(samples)
    ]
    renamed = {"mine": schedules["random"].replace(method="mine", budget=None)}
    again = run(vlm, mended, renamed, tmp_path / "b", tmp_path / "answers")
    assert asked == {}
    assert (first.arms["random"].rows["score"] < 1).any()
    assert (again.arms["mine"].rows["score"] == 1).all()


def test_a_changed_picture_or_question_is_asked_again(vlm, samples, schedules, tmp_path, asked):
    """The same path and the same size: only the picture's bytes tell."""
    run(vlm, samples, schedules, tmp_path / "a", tmp_path / "answers")
    asked.clear()
    Image.new("RGB", (24, 24), "red").save(samples[2].image)
    changed = [*samples[:5], replace(samples[5], question="where is A ?")]
    run(vlm, changed, schedules, tmp_path / "b", tmp_path / "answers")
    assert {count for _, count in asked.values()} == {3}
    keys = [sample_key(sample) for sample in changed]
    assert len(set(keys)) == 6
    assert keys[2] == sample_key(replace(changed[2], id="x", answers=(), task="y"))


def test_a_question_asked_twice_is_answered_once(vlm, samples, schedules, tmp_path, asked):
    twice = [*samples, *(replace(sample, id=f"{sample.id}-again") for sample in samples)]
    results = run(vlm, twice, {"random": schedules["random"]}, tmp_path / "a", None)
    assert asked["random"] == (2, 6)
    rows = results.arms["random"].rows
    assert rows["prediction"][:6].to_list() == rows["prediction"][6:].to_list()


def test_two_arms_that_do_the_same_are_asked_once(vlm, samples, schedules, tmp_path, asked):
    twins = {"random": schedules["random"], "twin": schedules["random"].replace(method="twin")}
    results = run(vlm, samples, twins, tmp_path / "a", None)
    assert asked == {"unpruned": (2, 6), "random": (2, 6)}
    said = [results.arms[arm].rows["prediction"].to_list() for arm in twins]
    assert said[0] == said[1]


def test_pictures_in_memory_are_told_apart_by_their_colours():
    """Of a palette's picture the pixels are numbers; transparency is another part of it."""
    drawn = Image.new("P", (8, 8))
    drawn.putpixel((1, 1), 1)
    pictures = [drawn.copy() for _ in range(3)]
    pictures[0].putpalette([255, 0, 0, 9, 9, 9])
    pictures[1].putpalette([0, 0, 255, 9, 9, 9])
    pictures[2].putpalette([0, 0, 255, 9, 9, 9])
    pictures[2].info["transparency"] = 0
    keys = {sample_key(Sample("s", one, "what colour ?")) for one in pictures}
    assert len(keys) == 3
    assert sample_key(Sample("t", pictures[0].convert("RGB"), "what colour ?")) in keys


def test_answers_of_workers_are_kept_by_their_device(vlm, samples, tmp_path):
    """This process, whose model is on the CPU, hands out the work of the GPUs."""
    pytest.importorskip("ray")
    arms = {tmp_path / "run": None}
    Run(vlm, samples, RunOptions(max_new_tokens=3)).into(arms, tmp_path / "answers")
    there = {tmp_path / "other": None}
    for options, known in (({}, len(samples)), ({"gpus": 1}, 0), ({"device": "mps"}, 0)):
        workers = Workers(2, partial(load, vlm.id), **options)
        run = Run(vlm, samples, RunOptions(max_new_tokens=3, workers=workers))
        assert run.answered(there, tmp_path / "answers") == known


def test_another_model_other_options_and_weights_are_told_apart(vlm, folder, schedules, tmp_path):
    generation = {"max_new_tokens": 3}
    schedule = schedules["random"]
    first = generation_identity(vlm, schedule, generation)
    assert generation_identity(load(str(folder)), schedule, generation) == first
    assert generation_identity(vlm, schedule, {"max_new_tokens": 4}) != first
    assert generation_identity(vlm, None, generation) != first
    assert generation_identity(load(str(folder), dtype="bfloat16"), schedule, generation) != first
    why = schedule.replace(why={"date": "2026-01-01"}, budget={"average": 0.1})
    assert generation_identity(vlm, why, generation) == first
    assert first["code"] == code_hash()
    assert generation_identity(vlm, schedule, generation, device="cuda") != first

    model = tiny_qwen2_vl(6)
    model.lm_head.weight.data[5, 7] += 1  # one value, which the configuration's hash does not see
    changed = load(str(save_model_directory(tmp_path / "changed", model)))
    assert changed.config_hash == vlm.config_hash
    changed.id = vlm.id  # as if it stood in the same place
    assert generation_identity(changed, schedule, generation) != first
    changed.id = str(tmp_path / "changed")
    files = generation_identity(changed, schedule, generation)["model"]["files"]
    assert files != first["model"]["files"]


def test_an_interrupted_run_keeps_what_was_answered(
    vlm, samples, schedules, tmp_path, monkeypatch, asked
):
    real, left = asking_module.answer, 4

    def interrupted(*args, **options):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(asking_module, "answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(vlm, samples, schedules, tmp_path / "a", tmp_path / "answers")
    asked.clear()
    again = run(vlm, samples, schedules, tmp_path / "a", tmp_path / "answers")
    assert asked == {"swiftvlm": (1, 2), "random": (1, 2)}
    same(again, run(vlm, samples, schedules, tmp_path / "whole", None))


def test_a_damaged_shard_is_answered_anew(vlm, samples, schedules, tmp_path, asked):
    first = run(vlm, samples, {}, tmp_path / "a", tmp_path / "answers")
    [shard] = (tmp_path / "answers").glob("*/*.parquet")
    shard.write_bytes(shard.read_bytes()[:50])
    asked.clear()
    with pytest.warns(DamagedAnswersWarning, match=rf"{shard.name} is damaged"):
        again = run(vlm, samples, {}, tmp_path / "b", tmp_path / "answers")
    same(first, again)
    assert asked == {"unpruned": (2, 6)}


def test_a_picture_that_is_not_there_is_named(vlm, samples, tmp_path):
    samples[3] = replace(samples[3], image=tmp_path / "none.png")
    with pytest.raises(SampleError, match=r"none\.png: no such picture"):
        run(vlm, samples, {}, tmp_path / "a", tmp_path / "answers")


def test_two_that_write_at_once_keep_each_others_answers(vlm, samples, tmp_path):
    run(vlm, samples, {}, tmp_path / "a", tmp_path / "kept")
    identity = generation_identity(vlm, None, {"decoding": "greedy", "max_new_tokens": 3})
    kept = AnswerCache(tmp_path / "kept", identity)
    keys = [sample_key(sample) for sample in samples]
    answers = dict(zip(keys, kept.read(keys), strict=True))
    first, second = (AnswerCache(tmp_path / "both", identity) for _ in range(2))
    with first, second:
        for key in keys[:4]:
            first.add(key, answers[key])
        for key in keys[2:]:
            second.add(key, answers[key])
    both = AnswerCache(tmp_path / "both", identity)
    assert both.known == set(keys)
    found = [replace(one.answer, prefill_s=0, decode_s=0) for one in both.read(keys)]
    assert found == [replace(answers[key].answer, prefill_s=0, decode_s=0) for key in keys]
    assert not list(both.directory.glob(".*"))


def test_a_result_directory_has_one_writer(vlm, samples, schedules, tmp_path, monkeypatch):
    real = asking_module.answer

    def meanwhile(*args, **options):
        with pytest.raises(OutputError, match="another process is writing to"):
            run(vlm, samples, schedules, tmp_path / "a", tmp_path / "answers")
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(asking_module, "answer", meanwhile)
        run(vlm, samples, schedules, tmp_path / "a", tmp_path / "answers")
    run(vlm, samples, schedules, tmp_path / "a", tmp_path / "answers")


def test_a_directory_of_another_comparison_makes_way(vlm, samples, schedules, tmp_path):
    wanted = tmp_path / "results"

    def place(chosen, arms):
        made = run(vlm, chosen, arms, wanted, tmp_path / "answers", beside=True)
        assert made.directory
        assert Comparison.load(made.directory).directory == made.directory
        return made.directory

    assert place(samples, schedules) == wanted
    assert place(samples, {"random": schedules["random"]}) == wanted
    other = {"random": Schedule.preset("random", vlm, budget=0.6, n_visual=36)}
    aside = place(samples, other)
    assert aside.parent == tmp_path
    assert aside.name.startswith("results-")
    assert place(samples, other) == aside
    assert place(samples[:2], schedules) not in (wanted, aside)


def test_sigterm_loses_no_more_than_ctrl_c(tmp_path):
    """A command that is told to end writes its open rows, and says how it goes on."""
    script = textwrap.dedent(
        """
        import sys, time
        import tokenlens.evaluation.running.generation as asking
        from tokenlens.cli.main import main
        real, count = asking.answer, 0

        def slow(*args, **options):
            global count
            count += options["max_new_tokens"] == 32  # not where a method is only tried
            if count == 3:
                print("ready", flush=True)
                time.sleep(60)
            return real(*args, **options)

        asking.answer = slow
        sys.argv = ["tokenlens", "run", "--compare", "random", "--limit", "8", "--batch-size", "4"]
        main()
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "interrupted; what was computed is kept, the same command continues" in err
    assert "Traceback" not in err
    kept = list(Path(tmp_path).glob("tokenlens-out/*/answers/*/*.parquet"))
    assert [len(pd.read_parquet(shard)) for shard in kept] == [4, 4]
