"""From a profile to a schedule, on profiles made up so that the answer is known."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from tokenlens.errors import BudgetError, SelectionError
from tokenlens.measures.correlation import rank_correlation
from tokenlens.measures.overlap import region_scores
from tokenlens.methods.plan import plan
from tokenlens.methods.swiftvlm_stages import swiftvlm_stages
from tokenlens.schedule import Schedule
from tokenlens.selection.criteria import CRITERIA, gather_evidence, layer_scores
from tokenlens.selection.criterion_names import READ
from tokenlens.selection.layers import area, select_layers
from tokenlens.selection.solve import solve_budget

RISING = [0.05, 0.1, 0.2, 0.15, 0.3, 0.25, 0.45, 0.4, 0.7, 0.9, 0.6, 0.5, 0.5, 0.4, 0.3, 0.2]


@dataclass
class Row:
    task: str
    importance: np.ndarray
    region: np.ndarray
    boxes: np.ndarray


class MadeUpProfile:
    """A profile whose layer i finds a region token with the chance `capability[i]`."""

    def __init__(self, capability=RISING, samples=40, sizes=(144,), seed=0):
        self.rng = np.random.default_rng(seed)
        self.layers = len(capability)
        self.alive = self.most_alive = 0
        self.manifest = {
            "identity": {
                "model": {
                    "id": "made-up",
                    "revision": None,
                    "architecture": "A",
                    "layers": self.layers,
                    "config_hash": "0",
                    "dtype": "float32",
                },
                "data": {"source": "scenes", "split": "calibration", "samples": samples},
            }
        }
        self.kept = [
            self._row(capability, sizes[index % len(sizes)], index) for index in range(samples)
        ]

    def _row(self, capability, n_visual, index):
        region = np.zeros(n_visual, dtype=bool)
        if index % 4 != 3:
            region[self.rng.choice(n_visual, 6, replace=False)] = True
        importance = self.rng.random((self.layers, n_visual)).astype(np.float32) / n_visual
        found = self.rng.random((self.layers, n_visual)) < np.array(capability)[:, None]
        importance[found & region] += 1 / n_visual
        return Row(
            task=("where", "letter")[index % 2],
            importance=importance,
            region=region,
            boxes=np.ones((n_visual, 4)),
        )

    def rows(self):
        """One row at a time, each fresh."""
        for row in self.kept:
            yield SimpleNamespace(**vars(row))


def test_the_plan_is_the_optimum_of_its_own_scores():
    selection = plan(MadeUpProfile(), stages=3, budget="33%")
    scores = [verdict.score for verdict in selection.verdicts]
    expected = select_layers(
        scores, 3, correlation=selection.correlation, max_correlation=0.9, first_span=2
    )
    assert list(selection.layers) == expected
    assert selection.area == area(scores, expected)
    assert [verdict.layer for verdict in selection.verdicts if verdict.chosen] == expected
    assert [verdict.layer for verdict in selection.verdicts] == list(range(1, 17))
    for verdict in selection.verdicts:
        assert verdict.low <= verdict.score <= verdict.high
        assert bool(verdict.reason) != verdict.chosen
        assert not (verdict.chosen and not verdict.feasible)
    assert selection.verdicts[0].reason == "the first two layers are never chosen"
    assert "does not score above layer 10" in selection.verdicts[10].reason


def test_the_schedule_meets_the_budget_and_says_why(tmp_path):
    selection = plan(MadeUpProfile(), stages=3, budget="33%")
    schedule = selection.schedule
    schedule.save(tmp_path / "out.json")
    assert Schedule.load(tmp_path / "out.json") == schedule
    entering = schedule.tokens_entering(144, 16)
    assert list(selection.tokens_per_layer) == entering
    assert selection.average == pytest.approx(0.33 * 144, abs=0.5)
    assert [stage.when for stage in schedule.stages] == ["after", "before", "before"]
    assert [stage.disposal for stage in schedule.stages] == ["bypass", "bypass", "drop"]
    assert [stage.score_layer for stage in schedule.stages] == list(selection.layers)
    assert schedule.model.id == "made-up"
    assert schedule.why.criterion == "region"
    assert schedule.why.data == "scenes"
    assert list(schedule.why.scores) == [verdict.score for verdict in selection.verdicts]
    assert schedule.budget.n_visual == 144


def test_without_merged_tokens_more_are_kept():
    made = {merge: plan(MadeUpProfile(), budget="33%", merge=merge) for merge in (0.1, 0, 3)}
    assert {merge: selection.schedule.stages[0].merge for merge, selection in made.items()} == {
        0.1: 0.1,
        0: 0,
        3: 3,
    }
    assert made[0].schedule.stages[0].keep > made[0.1].schedule.stages[0].keep
    tight = plan(MadeUpProfile(), budget="25%")
    assert any("merged ones" in note and "--merge 0" in note for note in tight.notes)
    assert not any("merged ones" in note for note in (*made[0].notes, *made[3].notes))
    assert made[0].average == pytest.approx(made[0.1].average, abs=1)


def test_evidence_is_the_plain_means():
    profile = MadeUpProfile(samples=12)
    evidence = gather_evidence(profile.rows(), "region")
    with_region = [row for row in profile.kept if row.region.any()]
    np.testing.assert_allclose(
        evidence.correlation, rank_correlation(row.importance for row in profile.kept)
    )
    per_task = {
        task: [region_scores(r.importance, r.region) for r in with_region if r.task == task]
        for task in ("letter", "where")
    }
    expected = np.mean(
        [np.mean(v, axis=0) / np.mean(v, axis=0).max() for v in per_task.values()], axis=0
    )
    score, low, high = layer_scores(evidence.scores)
    np.testing.assert_allclose(score, expected)
    assert (low <= score).all()
    assert (score <= high).all()
    assert plan(profile, budget="40%").samples == {task: len(v) for task, v in per_task.items()}


def test_a_task_in_which_no_layer_scores_counts_nothing():
    score, low, high = layer_scores({"a": np.array([[0.5, 1.0]] * 3), "b": np.zeros((3, 2))})
    np.testing.assert_allclose(np.stack([score, low, high]), [[0.25, 0.5]] * 3)


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_every_criterion_finds_the_layer_that_knows(criterion):
    capability = [0.0] * 8
    capability[5] = 1.0
    evidence = gather_evidence(MadeUpProfile(capability).rows(), criterion)
    assert layer_scores(evidence.scores)[0].argmax() == 5


def test_layers_that_rank_alike_do_not_follow_each_other():
    profile = MadeUpProfile([0.0, 0.0, 0.2, 0.1, 0.1, 0.6, 0.6, 0.1, 0.1, 0.1])
    for row in profile.kept:
        row.importance[6] = row.importance[5] + row.region
    free = plan(profile, stages=3, budget="60%", max_correlation=1.0)
    assert free.layers == (3, 6, 7)
    assert not free.rejected
    strict = plan(profile, stages=3, budget="60%", max_correlation=0.8)
    assert [(pair.first, pair.second) for pair in strict.rejected] == [(6, 7)]
    assert strict.rejected[0].correlation == strict.correlation[5, 6] > 0.8
    assert strict.layers == (3, 7)
    assert "ranks tokens like layer 7 (correlation 0." in strict.verdicts[5].reason
    assert any("may not follow each other" in note for note in strict.notes)


def test_fewer_layers_than_asked_is_a_note():
    capability = [0.1, 0.1, 0.3, 0.1, 0.1, 0.8, 0.2, 0.2, 0.2, 0.2]
    selection = plan(MadeUpProfile(capability, samples=80), stages=4, budget="60%")
    assert selection.layers == (3, 6)
    assert any("4 stages were asked for and at most 2" in note for note in selection.notes)
    assert len(selection.schedule.stages) == 2


def test_the_first_stage_always_has_a_layer_to_act_on():
    capability = [0.1, 0.1, 0.3, 0.9, 0.5, 0.5, 0.5, 0.5]
    selection = plan(MadeUpProfile(capability, samples=80), stages=2, budget="70%")
    assert len(selection.layers) == 1
    follows = [verdict for verdict in selection.verdicts if "act on no layer" in verdict.reason]
    assert [verdict.layer for verdict in follows] in ([], [4])


def test_samples_of_several_sizes_are_solved_at_their_mean():
    selection = plan(MadeUpProfile(sizes=(100, 200)), budget="40%")
    assert selection.n_visual == 150
    assert selection.schedule.budget.n_visual == 150
    assert any("100 to 200 visual tokens" in note for note in selection.notes)
    assert any("30 of 40 samples have a region" in note for note in selection.notes)


def test_the_same_profile_gives_the_same_plan():
    first, second = (plan(MadeUpProfile(), budget="33%", seed=3) for _ in range(2))
    assert first.schedule == second.schedule
    assert first.verdicts == second.verdicts


def test_what_cannot_be_is_said():
    with pytest.raises(SelectionError, match=r"criterion: got 'regoin'.*did you mean 'region'"):
        plan(MadeUpProfile(samples=4), criterion="regoin")
    with pytest.raises(BudgetError, match="out of reach"):
        plan(MadeUpProfile(), budget="5%")
    with pytest.raises(BudgetError, match="got '5x'"):
        plan(MadeUpProfile(samples=4), budget="5x")
    without = MadeUpProfile(samples=4)
    for row in without.kept:
        row.region[:] = False
    with pytest.raises(SelectionError, match="none of the 4 profiled samples"):
        plan(without)
    with pytest.raises(SelectionError, match="expected at most 0"):
        plan(MadeUpProfile([0.1, 0.2, 0.3]))
    with pytest.raises(SelectionError, match="stages: got 0"):
        plan(MadeUpProfile(), stages=0)


def test_a_budget_that_the_largest_area_cannot_meet_starts_earlier():
    late = [0.05, 0.5, 0.2, 0.21, 0.22, 0.23, 0.24, 0.6, 0.9, 0.95, 0.5, 0.5, 0.5, 0.4, 0.3, 0.2]
    profile = MadeUpProfile(late, samples=80)
    free = plan(profile, budget="80%")
    tight = plan(profile, budget="27%")
    assert free.layers[0] > tight.layers[0]
    assert abs(tight.average - 0.27 * 144) <= 0.5
    assert any("out of reach" in note for note in tight.notes)
    scores = [verdict.score for verdict in tight.verdicts]
    assert list(tight.layers) == select_layers(
        scores,
        3,
        correlation=tight.correlation,
        first_span=2,
        latest_first=tight.layers[0],
    )
    for latest in range(tight.layers[0] + 1, free.layers[0] + 1):
        later = select_layers(
            scores, 3, correlation=tight.correlation, first_span=2, latest_first=latest
        )
        if later != list(tight.layers):
            with pytest.raises(BudgetError):
                solve_budget(swiftvlm_stages(later), 0.27 * 144, n_visual=144, layers=16)


def test_the_names_of_the_criteria_are_theirs():
    assert tuple(CRITERIA) == READ
