"""The report: complete, self-contained, escaped, and honest about what is missing."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.support import synthetic
from tokenlens.errors import OutputError, ProfileError, ResultsError, ScheduleError
from tokenlens.reports.inputs import read_inputs
from tokenlens.reports.overlays import read_picture
from tokenlens.reports.page import build_report
from tokenlens.reports.provenance import provenance
from tokenlens.schedule.notes import Why

pytestmark = pytest.mark.filterwarnings("error")
HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'><svg onload=alert(1)>{{ 7*7 }}&amp;$x"
SECTIONS = [
    "summary",
    "explore",
    "stages",
    "correlation",
    "overlap",
    "shallow-deep",
    "information",
    "maps",
    "kept",
    "results",
    "tuning",
    "speed",
    "citations",
    "provenance",
]


class Page(HTMLParser):
    """What a browser would make of the page: its elements, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def written(folder: Path, **given) -> tuple[Page, str]:
    files = build_report(
        given.get("profile"),
        given.get("schedule"),
        given.get("results"),
        folder,
        pictures=given.get("pictures", 2),
    )
    html = files.html.read_text(encoding="utf-8")
    return Page(html), html


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return [synthetic.sample(index, folder) for index in range(8)]


@pytest.fixture(scope="module")
def profile(tmp_path_factory, samples):
    return synthetic.write_profile(tmp_path_factory.mktemp("profile"), samples)


@pytest.fixture(scope="module")
def results(tmp_path_factory, samples):
    return synthetic.write_results(tmp_path_factory.mktemp("results"), samples)


@pytest.fixture(scope="module")
def report(tmp_path_factory, profile, results):
    folder = tmp_path_factory.mktemp("report")
    return build_report(profile, synthetic.schedule(), results, folder, pictures=2)


@pytest.fixture(scope="module")
def page(report):
    return Page(report.html.read_text(encoding="utf-8"))


def test_every_section_is_there_and_in_the_contents(page):
    assert [one["id"] for one in page.all("section")] == SECTIONS
    links = [one["href"] for one in page.all("a")]
    assert links == [f"#{section}" for section in SECTIONS]


def test_what_to_cite_is_on_the_page(page):
    for words in ("What to cite", "@article{qian2026swiftvlm,", "arXiv 2602.03134"):
        assert words in page.text


def test_the_headline_says_what_was_kept_and_saved(page):
    for words in ("synthetic", "score retained", "visual tokens", "prefill MACs", "KV cache"):
        assert words in page.text
    assert "Pruned after layer 3, before layer 5 and before layer 6 by swiftvlm." in page.text


def test_every_layer_of_every_picture_is_shown_on_one_scale(page):
    labels = [one.get("aria-label") or "" for one in page.all("svg")]
    maps = [label for label in labels if label.startswith("Importance at layer")]
    assert maps == [f"Importance at layer {i}" for i in range(1, 7)] * 2
    stages = [label for label in labels if label.startswith("Stage")]
    assert len(stages) == 3 * 2
    assert len([one for one in page.all("div") if one.get("class") == "bar"]) == 1


def test_questions_answers_and_regions_are_shown(page, samples):
    assert samples[0]["question"] in page.text
    assert samples[0]["answers"][0] in page.text
    assert [one for one in page.all("polygon") if one["class"] == "region"]
    assert [one for one in page.all("rect") if one["class"] == "back"]
    assert [one for one in page.all("circle") if one["class"] == "seed"]


def test_hashes_versions_and_commands_are_shown(page):
    for words in ("0123456789abcdef", "fedcba9876543210", "torch 0"):
        assert words in page.text
    assert "tokenlens profile --model synthetic --data scenes --limit 8" in page.text
    assert "--stages 3 --criterion region --budget 33.3%" in page.text
    assert '"method": "swiftvlm"' in page.text


@pytest.mark.parametrize("criterion", ["region", "tune: 98 % retained"])
def test_only_a_criterion_of_select_layers_is_said_to_choose(profile, results, criterion):
    inputs = read_inputs(profile, None, results)
    why = Why(criterion=criterion)
    told = replace(inputs, schedule=inputs.schedule.replace(why=why))
    lines = provenance(told).commands
    assert any("select-layers" in line for line in lines) is (criterion == "region")


def test_the_page_refers_to_nothing_outside_itself(report):
    html = report.html.read_text(encoding="utf-8")
    page = Page(html)
    for _, attributes in page.elements:
        for name in ("src", "srcset", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert not re.search(r"url\(|@import", html)
    policy = next(one for one in page.all("meta") if one.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")
    assert "unsafe" not in policy["content"]
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy["content"]
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", html)


def test_every_picture_has_a_text(page):
    for image in page.all("img"):
        assert image["alt"] is not None
    for figure in page.all("svg"):
        assert figure.get("aria-label") or figure.get("aria-hidden") == "true"


def test_figures_are_written_as_svg_and_300_dpi_png(report):
    names = {path.stem for path in report.figures}
    assert names == {
        "rank-correlation",
        "region-overlap",
        "shallow-deep-overlap",
        "tokens-per-layer",
        "quality-against-cost",
        *(f"importance-{i}" for i in (1, 2)),
        *(f"kept-tokens-{i}" for i in (1, 2)),
    }
    assert len(report.figures) == 2 * len(names)
    for path in report.figures:
        if path.suffix == ".png":
            with Image.open(path) as figure:
                assert figure.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        else:
            assert b"<svg" in path.read_bytes()
    assert report.html.stat().st_size < 2e6


def test_what_users_wrote_is_never_markup(tmp_path, samples):
    hostile = [
        {**row, "id": HOSTILE + str(i), "question": HOSTILE, "answers": [HOSTILE], "task": HOSTILE}
        for i, row in enumerate(samples)
    ]
    schedule = synthetic.schedule(method=HOSTILE)
    profile = synthetic.write_profile(tmp_path / "profile", hostile)
    results = synthetic.write_results(
        tmp_path / "results", hostile, {HOSTILE: schedule}, prediction=HOSTILE
    )
    page, html = written(
        tmp_path / "report", profile=profile, schedule=schedule, results=results, pictures=1
    )
    assert [one["id"] for one in page.all("section")] == SECTIONS
    assert html.count("</script>") == 2
    assert not any(name.startswith("on") for _, one in page.elements for name in one)
    assert HOSTILE in page.text
    assert "49&" not in html


def test_sections_without_input_name_the_command(tmp_path, profile, results):
    page, html = written(tmp_path / "a", profile=profile, pictures=1)
    assert html.count("Make it with <code>tokenlens run</code>") == 3
    assert "Make it with <code>tokenlens select-layers</code>" in html
    page, html = written(tmp_path / "b", schedule=synthetic.schedule())
    assert html.count("Make it with <code>tokenlens profile</code>") == 4
    nothing_to_explore = [one for one in SECTIONS if one != "explore"]
    assert [one["id"] for one in page.all("section")] == nothing_to_explore
    page, html = written(tmp_path / "c", results=results, pictures=1)
    assert html.count("Make it with <code>tokenlens profile</code>") == 4
    assert "after layer 3" in page.text


def test_without_pictures_the_page_is_all_figures(tmp_path, profile, results):
    _, html = written(tmp_path, profile=profile, results=results, pictures=0)
    assert html.count("No pictures were asked for.") == 2


def test_the_schedule_of_the_results_is_shown_with_its_reasons(tmp_path, results):
    page, _ = written(tmp_path, results=results, pictures=0)
    assert '"criterion": "region"' in page.text
    assert '"average": 0.333' in page.text


def test_a_schedule_of_smaller_pictures_alone_has_a_report(tmp_path, samples):
    plan = synthetic.schedule(stages=[], image_scale=0.25, method="downsample")
    results = synthetic.write_results(tmp_path / "run", samples, {"downsample": plan})
    page, _ = written(tmp_path / "page", results=results)
    assert "Pictures shrunk to 25 % of their visual tokens" in page.text
    assert "every token of the smaller pictures goes on" in page.text
    assert "Pruned " not in page.text


def test_a_profile_without_regions_says_so(tmp_path, samples):
    bare = [{**sample, "region_boxes": []} for sample in samples]
    profile = synthetic.write_profile(tmp_path / "profile", bare)
    page, _ = written(tmp_path / "report", profile=profile, pictures=1)
    assert "No sample of the profile has a region" in page.text


def test_results_without_ground_truth_say_so(tmp_path, samples):
    results = synthetic.write_results(tmp_path / "results", samples, score=None)
    page, _ = written(tmp_path / "report", results=results, pictures=1)
    assert "no sample is scored" in page.text
    assert "nan" not in page.text.lower().split()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such picture"),
        (b"", "empty"),
        (b"not a picture", "not a picture"),
        (Image.new("RGB", (10, 10)), "has changed; it is 10x10 pixels now and was 60x60"),
    ],
)
def test_grey_stands_in_for_a_picture_that_cannot_be_had(tmp_path, content, reason):
    path = tmp_path / "picture.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        content.save(path)
    picture, missing = read_picture(str(path), (60, 60))
    assert reason in missing
    assert str(path) in missing
    assert picture.size == (60, 60)


def test_missing_pictures_are_said_and_the_maps_go_on(tmp_path):
    samples = [synthetic.sample(index, tmp_path / "pictures") for index in range(3)]
    Path(samples[0]["image"]).unlink()
    samples[1]["image"] = ""
    profile = synthetic.write_profile(tmp_path / "profile", samples)
    page, _ = written(tmp_path / "report", profile=profile)
    assert page.text.count("the maps are shown without it.") == 2
    assert samples[0]["image"] in page.text
    assert "given in memory and is not on disk" in page.text
    labels = [one.get("aria-label") or "" for one in page.all("svg")]
    assert len([label for label in labels if label.startswith("Importance")]) == 12


def test_inputs_that_do_not_belong_together_are_refused(tmp_path, profile, results, samples):
    deeper = synthetic.schedule(
        model={"architecture": "SyntheticForConditionalGeneration", "layers": 9}
    )
    with pytest.raises(ScheduleError, match=r"model\.layers: the schedule is for 9 layers"):
        build_report(profile, deeper, None, tmp_path)
    other = synthetic.schedule(scorer={"query": "all"})
    with pytest.raises(ScheduleError, match="none of which ran this schedule"):
        build_report(profile, other, results, tmp_path)
    with pytest.raises(ScheduleError, match="nothing to report on"):
        build_report(None, None, None, tmp_path)
    with pytest.raises(ProfileError, match="holds no profile"):
        build_report(tmp_path / "none", None, None, tmp_path)
    with pytest.raises(ResultsError, match="holds no results"):
        build_report(None, None, tmp_path / "none", tmp_path)


def test_results_of_another_model_are_refused(tmp_path, monkeypatch, profile, samples):
    monkeypatch.setitem(synthetic.MODEL, "config_hash", "another")
    results = synthetic.write_results(tmp_path / "results", samples)
    with pytest.raises(ResultsError, match="another"):
        build_report(profile, None, results, tmp_path / "report")


def test_a_place_that_cannot_be_written_keeps_the_old_report(tmp_path, profile):
    old = '<meta name="generator" content="tokenlens">old'
    (tmp_path / "report.html").write_text(old)
    (tmp_path / "figures").write_text("a file, not a folder")
    with pytest.raises(OutputError, match="cannot write"):
        build_report(profile, None, None, tmp_path)
    assert (tmp_path / "report.html").read_text() == old


def test_what_is_no_report_is_left_alone(tmp_path, profile):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputError, match=r"report\.html exists and is no report's"):
        build_report(profile, None, None, tmp_path)
    with pytest.raises(OutputError, match="is in the folder of a profile"):
        build_report(profile, None, None, profile)
    assert (tmp_path / "report.html").read_text() == "mine"
