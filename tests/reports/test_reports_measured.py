"""The report's sections on the information profile and a search, and a paper's figures of both."""

import re

import pytest

from tests.reports.test_reports import HOSTILE, Page
from tests.support import synthetic
from tests.support.measured import (
    HORIZON,
    searched,
    write_bench,
    write_information,
    write_search,
)
from tokenlens.errors import ResultsError
from tokenlens.reports.inputs import read_inputs
from tokenlens.reports.page import build_report
from tokenlens.reports.paper_figures import draw_figures
from tokenlens.reports.provenance import provenance
from tokenlens.reports.rebuilt import report_command
from tokenlens.storage.output_paths import Runs, find_runs
from tokenlens.tuning.goal import Goal

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def folders(tmp_path):
    samples = [synthetic.sample(index, tmp_path / "pictures") for index in range(4)]
    return Runs(
        synthetic.write_profile(tmp_path / "profile", samples),
        synthetic.write_results(tmp_path / "results", samples),
        tmp_path / "report",
        information=write_information(tmp_path / "information" / "rows"),
        tuning=write_search(tmp_path / "search"),
    )


def section(html, name):
    html = html.replace("\N{NO-BREAK SPACE}", " ")
    return re.search(rf'<section id="{name}">(.*?)</section>', html, re.S)[1]


def report(runs, **changes):
    kinds = {"information": runs.information, "tuning": runs.tuning, **changes}
    files = build_report(runs.profile, None, runs.results, runs.report, pictures=1, **kinds)
    return files.html.read_text(encoding="utf-8")


def test_the_sections_say_what_was_measured(folders):
    html = report(folders)
    used = Page(section(html, "information"))
    assert f"from layer {HORIZON} on, 99 % of the answer tokens and more stay" in used.text
    assert "Measured on 4 samples of scenes (calibration)" in used.text
    assert len([one for one in used.all("img") if "in-dark" in one["class"]]) == 4
    tried = Page(section(html, "tuning"))
    assert (
        "Chosen: trial 2, which retains 90.0 % at 40.0 % of the MACs of the prefill" in tried.text
    )
    assert "on 20 held-out samples, which chose nothing, 85.0 %" in tried.text
    assert "these samples are synthetic" in tried.text
    made = Page(section(html, "provenance")).text
    assert "tokenlens information --data scenes" in made.replace("--model synthetic ", "")
    assert "tokenlens tune --budget 50%" in made


def test_without_them_the_page_says_which_command_makes_them(folders):
    html = report(folders, information=None, tuning=None)
    assert "tokenlens information" in section(html, "information")
    assert "tokenlens tune" in section(html, "tuning")


def test_a_bench_has_a_section(folders, tmp_path):
    html = report(folders, bench=write_bench(tmp_path / "bench.json"))
    used = Page(section(html, "speed"))
    assert "Medians of 9 rounds on a CPU, 2 threads: synthetic, float32." in used.text
    assert "0.970 [0.95, 0.99]" in used.text
    assert len(used.all("img")) == 2, "light and dark"
    assert "tokenlens bench" in section(report(folders), "speed")


def test_a_bench_of_counts_says_that_nothing_was_timed(folders, tmp_path):
    counted = write_bench(tmp_path / "bench.json", estimate=True, model=None)
    used = Page(section(report(folders, bench=counted), "speed"))
    assert "random weights in the shape of qwen2-vl-2b (8 layers)" in used.text
    assert "nothing was timed" in used.text
    assert "Medians" not in used.text
    assert not used.all("img")


def test_a_bench_is_part_of_how_the_page_was_made(folders, tmp_path):
    bench = write_bench(tmp_path / "bench.json")
    inputs = read_inputs(None, None, folders.results, bench=bench)
    assert report_command(inputs)[-1] == str(bench)
    (facts,) = [dict(facts) for title, facts in provenance(inputs).tables if title == "Bench"]
    assert facts["device name"] == "cpu"


def test_layers_that_choose_alike_are_not_said_to_differ(folders):
    used = Page(section(report(folders), "information")).text
    alike = synthetic.LAYERS - HORIZON + 1
    assert (
        f"The own choices of {alike} of {synthetic.LAYERS} layers keep most alike, 100.0 %" in used
    )


def test_a_search_without_labels_is_about_agreement(folders, tmp_path):
    goal = Goal.of("50%", labels=False)
    html = report(folders, tuning=write_search(tmp_path / "unlabelled", searched(goal)))
    used = section(html, "tuning")
    assert "trial 2, which agrees with the unpruned model in 90.0 % at 40.0 %" in used
    assert '<th scope="col">agreement</th>' in used
    assert '<th scope="col">retained</th>' not in used


def test_a_bench_is_found_beside_the_newest_results_or_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = [synthetic.sample(index, tmp_path / "pictures") for index in range(2)]
    results = synthetic.write_results(tmp_path / "tokenlens-out" / "m" / "results", samples)
    assert find_runs([]).bench is None
    beside = write_bench(tmp_path / "tokenlens-out" / "m" / "bench.json")
    assert find_runs([]).bench.resolve() == beside
    assert find_runs([results]).bench is None
    other = write_bench(tmp_path / "other.json")
    assert find_runs([results, other]).bench == other
    with pytest.raises(ResultsError, match="a report has room for one"):
        find_runs([other, beside])
    with pytest.raises(ResultsError, match="is no bench"):
        read_inputs(None, None, results, bench=results / "manifest.json")


def test_names_of_a_search_and_of_tasks_are_escaped(folders, tmp_path):
    hostile = write_information(tmp_path / "hostile" / "rows", tasks=[HOSTILE, "x"])
    tuning = write_search(tmp_path / "named", searched(name=HOSTILE))
    html = report(folders, information=hostile, tuning=tuning)
    assert "<img src=x" not in html
    assert "onload=alert" not in re.sub(r"&lt;.*?&gt;", "", html)


def test_figures_of_the_report_before_do_not_stay_beside_another(folders, tmp_path):
    report(folders, bench=write_bench(tmp_path / "bench.json"))
    figures = folders.report / "figures"
    own = figures / "my-own.svg"
    own.write_text("<svg/>")
    before = {path.name for path in figures.iterdir()}
    files = build_report(folders.profile, None, None, folders.report, pictures=0)
    assert {path.name for path in figures.iterdir()} == {
        own.name, *(path.name for path in files.figures)
    }  # fmt: skip
    assert before > {"speed.svg", "tokens-per-layer.svg", "importance-1.png", "kept-tokens-1.svg"}


def test_runs_of_another_model_are_refused(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(synthetic.MODEL, "config_hash", "another")
    other = write_search(tmp_path / "other")
    with pytest.raises(ResultsError, match="report them apart"):
        report(folders, tuning=other)


def test_a_paper_s_figures_of_all_runs(folders, tmp_path):
    more = Runs(None, None, folders.report, information=folders.information)
    runs = Runs(**{**vars(folders), "further": (more,)})
    files = draw_figures(runs, None, tmp_path / "paper", formats=[".svg"], pictures=1)
    for name in ("information", "information-horizon", "tuning-front", "rank-correlation"):
        assert files[name] == [tmp_path / "paper" / f"{name}.svg"]
    assert files["2/information"] == [tmp_path / "paper" / "2" / "information.svg"]
    assert "2/tuning-front" not in files
