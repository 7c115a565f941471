"""The figure of a search: finished trials only, the front as a step, the chosen one marked."""

import numpy as np

from tokenlens.analyses import tuning_front
from tokenlens.tuning.goal import Goal
from tokenlens.tuning.trials import Trial
from tokenlens.tuning.tuning import HeldOut, Tuning


def found():
    rows = [("fastv", 0.3, 0.5), ("", 0.25, 0.7), ("", 0.4, 0.9), ("", 0.41, 0.6)]
    trials = [
        Trial(place, name, "finished", None, retained=score, low=score - 0.1, high=1, cost=cost)
        for place, (name, cost, score) in enumerate(rows)
    ]
    lost = Trial(4, "", "hopeless", None, retained=0.1, low=0.0, high=0.2, cost=0.2)
    held = {1: HeldOut(0.65, 0.6, 0.7), 2: HeldOut(0.85, 0.8, 0.9)}
    return Tuning(Goal.of("50%"), (*trials, lost), 40, held, 20)


def test_the_front_and_the_chosen_are_drawn():
    frame = tuning_front.compute(found())
    assert list(frame["trial"]) == [0, 1, 2, 3]
    assert list(frame.loc[frame["on_front"], "trial"]) == [1, 2]
    figure = tuning_front.plot(frame, cost="MACs", least=0.8)
    (axes,) = figure.axes
    labels = axes.get_legend_handles_labels()[1]
    assert set(labels) == {"proposed", "preset", "front", "held-out", "chosen"}
    step = next(line for line in axes.lines if line.get_label() == "front")
    np.testing.assert_allclose(step.get_ydata(), [0.7, 0.9])


def test_optimism_is_tuning_less_held_out():
    tuning = found()
    assert round(tuning.optimism(tuning.chosen), 6) == 0.05
    assert round(tuning.mean_optimism, 6) == 0.05
