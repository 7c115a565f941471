"""The notebook's explorer: the recorded numbers, the page's own files, and one line without it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from traitlets import TraitError

import tokenlens as tl
from tests.reports.test_explorer import maps_of
from tests.support import synthetic
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.probing.profile import Profile
from tokenlens.reports.explorer_assets import page_script
from tokenlens.reports.templating import environment


def shown_by(widget):
    """What the widget's script reads."""
    return json.loads(re.search(r'id="explorer-data">(.*?)</script>', widget._html, re.S)[1])


@pytest.fixture(scope="module")
def sample():
    return tl.load_samples("scenes")[0]


@pytest.fixture(scope="module")
def recording(sample):
    vlm = tl.load("tiny-qwen2-vl")
    inputs = vlm.prepare(sample.open_image(), sample.question)
    with tl.probe(vlm, queries="generated", per_head=True) as recorded:
        vlm.model.generate(**inputs, max_new_tokens=3)
    return recorded


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    samples = [synthetic.sample(index, folder / "pictures") for index in range(4)]
    profile = synthetic.write_profile(folder / "profile", samples)
    return Profile(profile), Comparison.load(synthetic.write_results(folder / "results", samples))


def test_a_recordings_maps_are_its_numbers(recording, sample):
    (shown,) = shown_by(recording.explore(sample.open_image()))["samples"]
    maps = shown["maps"]
    assert maps["words"] == [text.strip() or "␣" for text in recording.tokens[0]]
    layers, heads, queries, tokens = recording.per_head[0].shape
    assert (maps["layers"], maps["heads"], len(maps["words"])) == (layers, heads, queries)
    steps = maps_of({"maps": {**maps, "layers": queries * layers}})
    values = steps.reshape(queries, layers, 1 + heads, tokens)
    true = recording.importance[0].numpy().swapaxes(0, 1)
    assert np.abs(values[:, :, 0] - true).max() <= true.max() * 1e-5
    assert np.abs(values[0, :, 0] - true[1]).max() > true.max() * 1e-5, "the control"
    per_head = np.moveaxis(recording.per_head[0].numpy(), 2, 0)
    assert np.abs(values[:, :, 1:] - per_head).max() <= per_head.max() * 1e-5
    correlations = np.array(shown["correlations"])
    assert np.abs(correlations[1] - tl.rank_correlation(true[1])).max() <= 0.0006
    assert (shown["width"], shown["height"], shown["missing"]) == (168, 168, None)


def test_without_a_picture_the_maps_lie_on_grey(recording):
    (shown,) = shown_by(recording.explore())["samples"]
    assert "recording.explore(picture)" in shown["missing"]
    assert shown["width"] == shown["height"]


def test_each_sample_has_its_picture(recording, sample):
    picture = sample.open_image()
    (one,) = shown_by(recording.explore([np.asarray(picture)]))["samples"]
    (other,) = shown_by(recording.explore(str(sample.image)))["samples"]
    assert one["photo"] == other["photo"]
    with pytest.raises(tl.TokenlensError, match="got 2, expected 1, one for each sample"):
        recording.explore([picture, picture])


def test_what_is_shown_can_be_set_within_what_is_there(recording):
    widget = recording.explore()
    widget.layer, widget.token = 24, 3
    with pytest.raises(TraitError, match="got 25, expected at most 24"):
        widget.layer = 25
    with pytest.raises(TraitError, match="sample: got 1, expected at most 0"):
        widget.sample = 1


def test_viewers_without_widgets_get_a_still_picture(recording, made):
    data, _ = recording.explore()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert "explorer of 1 sample" in data["text/plain"]
    assert "image/png" not in made[0].explore()._repr_mimebundle_()[0]


def test_profiles_and_comparisons_are_explored_too(made):
    profile, comparison = made
    assert len(shown_by(profile.explore(samples=3))["samples"]) == 3
    (model,) = shown_by(comparison.explore(profile))["models"]
    assert [arm["name"] for arm in model["arms"]] == ["unpruned", "swiftvlm"]
    assert list(model["correlations"]) == ["the last prompt token"]
    with pytest.raises(tl.TokenlensError, match="samples: got 0"):
        profile.explore(samples=0)


def test_its_code_is_the_pages(recording):
    """All of the page's script but what is the page's alone: its palette and its start."""
    templates = environment()
    sources = [
        templates.loader.get_source(templates, name)[0]
        for name in ("maps.js", "explorer_views.js", "explorer.js", "explorer_wiring.js")
    ]
    widget = recording.explore()
    for source in sources:
        assert source in widget._esm
        assert source in page_script(templates).text
    assert "http" not in widget._esm.replace("http://www.w3.org/2000/svg", "")
    assert "document.getElementById" not in widget._esm


def test_without_anywidget_one_line_says_how_to_install_it():
    program = """if True:
        import sys
        sys.modules["anywidget"] = None
        import tokenlens as tl
        from tokenlens.registry import drawing
        try:
            drawing("recording explorer")
        except tl.TokenlensError as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("OptionError explore() draws a notebook widget")
    assert 'pip install "tokenlens[notebook]"' in done.stdout
