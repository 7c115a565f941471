"""Whole paths along the model's own answers: what is measured, and what the preset makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tokenlens as tl
from tests.evaluation.test_information import LAYERS, TOKENS, samples, vlm, whole
from tokenlens.errors import ResultsError
from tokenlens.evaluation.information import paths as measured_paths
from tokenlens.evaluation.information.answered import Answered
from tokenlens.evaluation.information.curves import Information
from tokenlens.evaluation.information.path_losses import PathLosses
from tokenlens.evaluation.information.paths import SHARES, path_arms
from tokenlens.models.prompt_lengths import typical_prompt
from tokenlens.pruning.cost.decoder_macs import DecoderMacs
from tokenlens.schedule import Scorer
from tokenlens.schedule.layer_needs import PathLoss

__all__ = ["samples", "vlm", "whole"]


def test_arms_take_the_share_of_the_macs_that_they_are_called_by(vlm, samples, whole):
    meter, n_visual = DecoderMacs.of(vlm), typical_prompt(vlm).visual
    arms = path_arms(vlm, whole.needs, samples[0])
    assert {arm.path for arm in arms} >= {"modes"}
    assert len({(arm.path, arm.share) for arm in arms}) == len(arms)
    every = meter.macs((), Scorer(), n_visual)
    for arm in arms:
        came_to = meter.macs(arm.schedule.stages, arm.schedule.scorer, n_visual) / every
        assert came_to == pytest.approx(arm.share, abs=0.02), arm.path


def test_an_arm_is_the_model_under_its_schedule(vlm, samples, whole):
    """Against the schedule itself, and a control: no other arm gives the same."""
    answered = Answered.of(vlm, samples[:2], TOKENS)
    arms = path_arms(vlm, whole.needs, samples[0])
    rows = measured_paths._rows(answered, arms)
    for place in (0, len(arms) // 2, len(arms) - 1):
        with tl.prune(vlm, arms[place].schedule):
            logits = [one.numpy() for one in answered.forced.logits(vlm)]
        for row, own, other in zip(rows, answered.reference, logits, strict=True):
            same = own.argmax(-1) == other.argmax(-1)
            assert row["agreement"][place] == pytest.approx(same.mean())
            assert row["same"][place] == float(same.all())
            first, second = (torch.tensor(one).double().log_softmax(-1) for one in (own, other))
            kl = (first.exp() * (first - second)).sum(-1).mean()
            assert row["kl"][place] == pytest.approx(float(kl), abs=1e-9)
    assert len({round(value, 9) for value in rows[0]["kl"]}) > 10  # in 4 layers some paths are one


def test_every_task_weighs_the_same_in_a_loss():
    kl = np.array([[1.0, 3.0], [1.0, 3.0], [5.0, 0.0]])
    found = PathLosses((("modes", 0.2), ("modes", 0.4)), ("a", "a", "b"), kl, kl, kl)
    (loss,) = found.losses
    assert (loss.path, loss.shares, loss.losses) == ("modes", (0.2, 0.4), (3.0, 1.5))
    assert found.table()["kl"].tolist() == pytest.approx([7 / 3, 2.0])


def test_the_preset_takes_the_path_that_loses_least(vlm, samples, whole):
    needs = whole.needs
    arms = [arm for arm in path_arms(vlm, needs, samples[0]) if arm.share == 0.4]
    assert len(arms) > 5
    for arm in arms:
        told = tuple(PathLoss(other.path, (0.1, 0.6), (1.0, 1.0)) for other in arms if other != arm)
        best = replace(needs, paths=(*told, PathLoss(arm.path, (0.1, 0.6), (0.5, 0.5))))
        made = tl.Schedule.preset("tokenlens", vlm, budget="40% MACs", needs=best)
        assert made.stages == arm.schedule.stages, arm.path
    assert len({str(arm.schedule.as_json()) for arm in arms}) > 3


def test_figures_do_not_depend_on_the_batch(vlm, samples, whole):
    other = tl.information(vlm, samples, max_new_tokens=TOKENS, batch_size=5)
    np.testing.assert_allclose(other.paths.kl, whole.paths.kl, atol=1e-6)
    assert other.paths.arms == whole.paths.arms
    assert len(whole.paths.arms) <= 21 * len(SHARES)
    assert whole.layers == LAYERS


def test_a_run_that_was_cut_off_continues(vlm, samples, whole, tmp_path, monkeypatch):
    made, batches = measured_paths._rows, []

    def cut_off(answered, arms):
        if len(batches) == 1:
            raise KeyboardInterrupt
        batches.append(answered)
        return made(answered, arms)

    arguments = {"max_new_tokens": TOKENS, "batch_size": 2}
    monkeypatch.setattr(measured_paths, "_rows", cut_off)
    with pytest.raises(KeyboardInterrupt):
        tl.information(vlm, samples, tmp_path, **arguments)
    assert Information.load(tmp_path).paths is None  # the curves are whole, the paths are not
    assert Information.load(tmp_path).needs.paths == ()
    with pytest.raises(ResultsError, match="not finished"):
        PathLosses.load(tmp_path / "paths")
    monkeypatch.setattr(measured_paths, "_rows", made)
    ended = tl.information(vlm, samples, tmp_path, **arguments)
    np.testing.assert_array_equal(ended.paths.kl, whole.paths.kl)
    np.testing.assert_array_equal(Information.load(tmp_path).paths.kl, whole.paths.kl)


def test_paths_can_be_left_out(vlm, samples):
    found = tl.information(vlm, samples[:1], max_new_tokens=1, paths=False)
    assert found.paths is None
