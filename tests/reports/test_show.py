"""The page of `tokenlens show`: what is in it, that it is closed, and that it fits."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
from PIL import Image

import tokenlens as tl
from tests.support.show import HOSTILE, made_up
from tokenlens.reports.map_data import quantised
from tokenlens.reports.show_page import MOST_BYTES, show_page
from tokenlens.reports.shown_answer import answer_photo


def data_of(page):
    """What the page's maps are drawn from, one for each photograph."""
    found = re.findall(r'<script type="application/json" class="data">(.*?)</script>', page, re.S)
    return [json.loads(one) for one in found]


def maps_of(data):
    """The maps as the page computes them: float64 [words, layers, 1 + heads, n_visual]."""
    shape = (len(data["words"]), data["layers"], data["heads"] + 1)
    levels = np.frombuffer(base64.b64decode(data["maps"]), dtype=np.uint8)
    tops = np.array(data["tops"]).reshape(*shape, 1)
    return levels.reshape(*shape, -1) * tops / 255


def test_the_stored_numbers_are_the_recorded_ones():
    shown = made_up()
    (data,) = data_of(show_page([shown], "m"))
    maps, tops = maps_of(data), shown.maps.max(axis=-1, keepdims=True)
    assert maps.shape == shown.maps.shape
    assert (np.abs(maps - shown.maps) <= tops / 255 * 0.51).all()
    assert data["words"] == list(shown.words)


def test_quantising_keeps_zeros_and_the_largest():
    levels, tops = quantised(np.array([[0, 0, 0], [0.2, 0, 0.1]], dtype=np.float32))
    assert levels.tolist() == [[0, 0, 0], [255, 0, 128]]
    assert tops.tolist() == [0, 0.2]


def test_scripts_and_styles_are_allowed_by_their_own_hashes():
    page = show_page([made_up()], "m")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", page)
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)


def test_hostile_names_are_text():
    page = show_page([made_up(text=HOSTILE)], HOSTILE, HOSTILE)
    assert "<img src=http" not in page
    assert "<svg onload" not in page
    assert page.count("</script>") == 2
    assert data_of(page)[0]["words"] == [HOSTILE] * 3


@pytest.mark.parametrize(("layers", "heads", "tokens"), [(32, 32, 576), (80, 64, 9216)])
def test_a_large_model_fits(layers, heads, tokens):
    shown = made_up(words=3, layers=layers, heads=heads if tokens < 9000 else 0, tokens=tokens)
    page = show_page([shown], "m")
    assert len(page.encode()) <= MOST_BYTES
    data = data_of(page)[0]
    assert "Heads are left out" in page or data["heads"] == heads or tokens > 9000
    assert len(data["words"]) >= 1


def test_many_photographs_share_the_page():
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    shown = [made_up(image=Image.fromarray(noise)) for _ in range(12)]
    page = show_page(shown, "m")
    assert len(data_of(page)) == 12
    assert len(page.encode()) <= MOST_BYTES


def test_nothing_looked_at_and_nothing_said():
    shown = made_up(answer="", scale=0.0)
    page = show_page([shown], "m")
    assert "(no answer)" in page
    assert not maps_of(data_of(page)[0]).any()


def test_the_maps_are_the_probes(tmp_path):
    """On a bundled model, beside what a schedule does: here each token is a word."""
    vlm = tl.load("tiny-qwen2-vl", device="cpu")
    sample = tl.load_samples("scenes")[0]
    sample.open_image().save(tmp_path / "photo.png")
    schedule = tl.Schedule.preset("swiftvlm", vlm, budget="33%", layers=[6, 9, 15])
    shown = answer_photo(vlm, tmp_path / "photo.png", sample.question, schedule)
    inputs = vlm.prepare(sample.open_image(), sample.question)
    with tl.probe(vlm, queries="generated", per_head=True) as recording:
        vlm.model.generate(**inputs, max_new_tokens=32)
    rows = recording.per_head[0].permute(2, 0, 1, 3).numpy()[:-1]  # without the end
    assert len(shown.words) == len(rows), "a word of several tokens"
    assert np.abs(shown.maps[:, :, 1:] - rows).max() < 1e-6
    assert np.abs(shown.maps[:, :, 0] - rows.mean(axis=2)).max() < 1e-6
    assert shown.answer == shown.pruned
    assert [len(part) for _, part in shown.stages.groupby("stage")] == [144] * 3
