"""The figure of a search: finished trials only, the front as a step, the chosen one marked."""

import numpy as np

from tests.support.measured import searched
from tokenlens.analyses import tuning_front


def test_the_front_and_the_chosen_are_drawn():
    frame = tuning_front.compute(searched())
    assert list(frame["trial"]) == [0, 1, 2, 3]
    assert list(frame.loc[frame["on_front"], "trial"]) == [1, 2]
    figure = tuning_front.plot(frame, cost="MACs", least=0.8)
    (axes,) = figure.axes
    labels = axes.get_legend_handles_labels()[1]
    assert set(labels) == {
        *("proposed", "preset", "front", "held-out samples"),
        *("chosen: a proposal", "goal: 80\N{NO-BREAK SPACE}%"),
    }
    step = next(line for line in axes.lines if line.get_label() == "front")
    np.testing.assert_allclose(step.get_ydata(), [0.7, 0.9])


def test_optimism_is_tuning_less_held_out():
    tuning = searched()
    assert round(tuning.optimism(tuning.chosen), 6) == 0.05
    assert round(tuning.mean_optimism, 6) == 0.05
