"""A search tells a tracker of every trial once, and of what it found."""

import json

import tokenlens as tl
from tests.support.builders import counted_samples
from tests.support.trackers import Recorded
from tests.tuning.conftest import SEARCH
from tokenlens.tuning.tracking import SearchTracking


def known(tuning):
    """Step and figures of every trial that was judged."""
    return [
        (one.place, {name: getattr(one, name) for name in ("retained", "low", "high", "cost")})
        for one in tuning.trials
        if one.retained is not None
    ]


def test_a_search_logs_its_trials_as_they_end(finished, tracked):
    tuning, directory = finished
    ((place, settings),) = tracked.begun
    assert place == directory
    assert settings["goal"] == tuning.goal.as_json()
    assert tracked.logged == known(tuning)
    ((tables, files),) = tracked.ended
    assert [row["trial"] for row in tables["front"]] == [one.place for one in tuning.shown]
    assert all("schedule" not in row for row in tables["front"])
    assert tl.Schedule(**json.loads(files["schedule.json"])) == tuning.schedule


def test_a_search_that_continues_logs_what_was_there(finished, vlm, samples):
    tuning, directory = finished
    again, others = Recorded(), counted_samples(24)[20:]
    found = tl.tune(
        vlm, samples, "60% MACs", held_out=others, out=directory, tracker=again, **SEARCH
    )
    assert again.logged == known(found) == known(tuning)


def test_a_search_without_a_tracker_tells_nobody(finished):
    nobody = SearchTracking(None)
    nobody.begin(finished[1], {})
    nobody.ended(list(finished[0].trials))
    nobody.end(finished[0])


def test_a_trial_is_logged_once(finished):
    recorded = Recorded()
    telling = SearchTracking(recorded)
    trials = list(finished[0].trials)
    telling.ended(trials[:2])
    telling.ended(trials)
    steps = [step for step, _ in recorded.logged]
    assert steps == sorted(set(steps))
    assert recorded.logged == known(finished[0])
    SearchTracking(recorded).ended(trials)  # the control: a telling of its own logs them again
    assert len(recorded.logged) == 2 * len(steps)
