"""The information profile: every arm against what it means, and a run that is cut off."""

import numpy as np
import pytest
import torch
from PIL import Image

import tokenlens as tl
from tests.support.builders import save_model_directory, tiny_qwen2_vl
from tokenlens.errors import OutputError, ResultsError
from tokenlens.evaluation.information import measure
from tokenlens.evaluation.information.arms import Arms, frozen_in
from tokenlens.evaluation.information.curves import CURVES, Information
from tokenlens.evaluation.information.teacher_forcing import ForcedBatch
from tokenlens.evaluation.running.generation import answer_tokens
from tokenlens.models.batch import Batch
from tokenlens.models.greedy import never_answered

LAYERS, TOKENS = 4, 3


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    directory = save_model_directory(tmp_path_factory.mktemp("model"), tiny_qwen2_vl(LAYERS))
    return tl.load(str(directory))


@pytest.fixture(scope="module")
def samples():
    """Questions of unlike length about pictures of unlike size, without answers and boxes."""
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (24, 24 + 8 * (index % 2), 3), dtype=np.uint8))
        for index in range(5)
    ]
    words = ["where is A ?", "how many are there ?", "what colour is the red circle ?"]
    return [
        tl.Sample(id=str(index), image=picture, question=words[index % 3], task=words[index % 2])
        for index, picture in enumerate(pictures)
    ]


@pytest.fixture(scope="module")
def whole(vlm, samples):
    return tl.information(vlm, samples, max_new_tokens=TOKENS, batch_size=2)


def test_forced_logits_choose_the_answer_that_was_generated(vlm, samples):
    batch = Batch.of(vlm, samples)
    answers = [
        row[: 1 + index % 3] for index, row in enumerate(answer_tokens(vlm, batch.inputs, TOKENS))
    ]
    forced = ForcedBatch.of(batch.inputs, answers)
    for answer, logits in zip(answers, forced.logits(vlm), strict=True):
        assert logits.argmax(dim=1).tolist() == answer
    shifted = [[(token + 1) % 64 for token in answer] for answer in answers]
    others = ForcedBatch.of(batch.inputs, shifted).logits(vlm)
    assert [row[0].argmax().item() for row in others] == [answer[0] for answer in answers]


def test_an_arm_gives_what_decoding_step_by_step_gives(vlm, samples):
    """The answer's rows see the pruned prompt, and the choice is of the prompt alone."""
    batch = Batch.of(vlm, samples[:1])
    answer = answer_tokens(vlm, batch.inputs, TOKENS)
    forced = ForcedBatch.of(batch.inputs, answer)
    with tl.probe(vlm) as recording, torch.inference_mode():
        vlm.model(**batch.inputs, use_cache=False)
    recorded = recording.importance
    for curve in ("horizon", "capability"):
        with Arms(vlm, 0.2, 0).open(curve, 3, forced.inputs["input_ids"], recorded):
            at_once = forced.logits(vlm)[0]
        with (
            Arms(vlm, 0.2, 0).open(curve, 3, batch.inputs["input_ids"], recorded),
            torch.inference_mode(),
        ):
            out = vlm.model(**batch.inputs, use_cache=True)
            rows = [out.logits[0, -1]]
            for token in answer[0][:-1]:
                out = vlm.model(torch.tensor([[token]]), past_key_values=out.past_key_values)
                rows.append(out.logits[0, -1])
        rows = [row.index_fill(0, torch.tensor(never_answered(vlm)), at_once.min()) for row in rows]
        torch.testing.assert_close(at_once, torch.stack(rows), atol=1e-5, rtol=1e-4)


def test_a_frozen_layer_leaves_visual_tokens_and_nothing_else(vlm, samples):
    batch = Batch.of(vlm, samples[:2])
    visual = batch.inputs["input_ids"] == vlm.model.config.image_token_id
    with frozen_in(vlm, 2, batch.inputs["input_ids"]), torch.inference_mode():
        states = vlm.model(**batch.inputs, output_hidden_states=True).hidden_states
    assert torch.equal(states[2][visual], states[1][visual])
    assert not torch.equal(states[3][visual], states[2][visual])
    assert not torch.isclose(states[2][~visual], states[1][~visual]).all()


def test_curves_are_of_all_layers_and_the_last_contributes_nothing(whole):
    for curve in CURVES:
        mean, low, high = whole.interval(curve)
        assert mean.dtype == np.float64
        assert mean.shape == (LAYERS,)
        assert (low <= mean).all()
        assert (mean <= high).all()
        np.testing.assert_array_equal(mean, getattr(whole, curve))
    assert whole.contribution[-1] == pytest.approx(0, abs=1e-9)  # nobody reads what it writes
    assert whole.contribution[0] > 1e-6
    assert whole.horizon[0] > 1e-6
    assert set(whole.table()["task"]) == {*whole.tasks, "all"}


def test_aside_is_gone_in_one_layer_alone(whole):
    """The last layer alone is all there is from it on; in others what comes back matters."""
    assert whole.aside[-1] == pytest.approx(whole.horizon[-1], abs=1e-9)
    assert (np.abs(whole.aside - whole.horizon)[:-1] > 1e-9).all()
    assert whole.aside[-1] > whole.contribution[-1] + 1e-9


def test_what_layers_need_is_what_the_task_that_loses_most_loses(whole):
    needs = whole.needs
    for given, curve in ((needs.update, "contribution"), (needs.read, "aside")):
        means = [
            whole.values[curve, "kl"][[one == task for one in whole.tasks]].mean(axis=0)
            for task in set(whole.tasks)
        ]
        np.testing.assert_allclose(given, np.clip(np.max(means, axis=0), 0, None), atol=1e-12)
    assert whole.why.criterion == "information"
    assert whole.why.scores == needs.read


def test_figures_do_not_depend_on_the_batch(vlm, samples, whole):
    other = tl.information(vlm, samples, max_new_tokens=TOKENS, batch_size=5)
    for key, values in whole.values.items():
        np.testing.assert_allclose(other.values[key], values, atol=1e-6)


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    vlm, samples, whole, tmp_path, monkeypatch
):
    made, batches = measure._rows, []

    def cut_off(arms, batch, options, advance):
        if len(batches) == 1:
            raise KeyboardInterrupt
        batches.append(batch)
        return made(arms, batch, options, advance)

    arguments = {"max_new_tokens": TOKENS, "batch_size": 2}
    monkeypatch.setattr(measure, "_rows", cut_off)
    with pytest.raises(KeyboardInterrupt):
        tl.information(vlm, samples, tmp_path / "rows", **arguments)
    with pytest.raises(ResultsError, match="not finished"):
        Information.load(tmp_path / "rows")
    monkeypatch.setattr(measure, "_rows", made)
    options = measure.Options(max_new_tokens=TOKENS)
    assert measure.estimate(vlm, samples, tmp_path / "rows", options=options).done == 2
    found = tl.information(vlm, samples, tmp_path / "rows", **arguments)
    for key, values in whole.values.items():
        np.testing.assert_array_equal(found.values[key], values)
    with pytest.raises(OutputError, match=r"options\.seed"):
        tl.information(vlm, samples, tmp_path / "rows", seed=1, **arguments)


@pytest.mark.parametrize("bad", [{"share": 1.5}, {"batch_size": 0}, {"max_new_tokens": 0}])
def test_options_that_make_no_sense_are_refused(vlm, samples, bad):
    with pytest.raises(ResultsError, match=next(iter(bad))):
        tl.information(vlm, samples, **bad)


def test_layers_are_chosen_by_agreement(whole):
    """What selection is given is the share of answer tokens that stay, per task."""
    measured = whole.as_capability()
    assert measured.criterion == "agreement"
    agreed = whole.values["capability", "agreement"]
    for task, scores in measured.scores.items():
        rows = [place for place, one in enumerate(whole.tasks) if one == task]
        np.testing.assert_array_equal(scores, agreed[rows])
        assert measured.unpruned[task] == 1


def test_the_command_says_what_it_takes_and_writes_the_curves(command, vlm, samples, tmp_path):
    samples[0].open_image().save(tmp_path / "a.png")
    row = '{"id": "a", "image": "a.png", "question": "where is A ?"}\n'
    (tmp_path / "manifest.jsonl").write_text(row * 1, encoding="utf-8")
    arguments = ["information", "--model", vlm.id, "--data", tmp_path / "manifest.jsonl"]
    arguments += ["--out", "rows", "--max-new-tokens", 2]
    dry = command(*arguments, "--dry-run")
    assert dry.code == 0, dry.err
    assert "22 forward passes over each of 1 samples" in dry.out
    assert not (tmp_path / "rows").exists()
    done = command(*arguments)
    assert done.code == 0, done.err
    assert "Information horizon of all" in done.out
    written = {path.name for path in (tmp_path / "rows").iterdir()}
    assert {"curves.csv", "paths.csv", *(f"{curve}.svg" for curve in CURVES)} <= written
    assert "answers that stay, by MACs" in done.out
    again = command(*arguments)
    assert "1 of them there" in again.out
    assert command(*arguments[:-1], 3).line.startswith("tokenlens: rows holds another information")
    chosen = command("information", "--share", 1)
    assert "share: got 1.0" in chosen.line
