"""`tokenlens cite`: the entries of results on disk, and of nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ended
from tests.support.measured import write_information, write_search
from tests.support.repository import ROOT
from tokenlens.evaluation.comparing.citations import FILE, write_references
from tokenlens.evaluation.comparing.comparison import Comparison
from tokenlens.storage.output_claims import BIB_MARK

Command = Callable[..., Ended]
STORED = ROOT / "tests" / "stored" / "schema-1"


def cited(command: Command, *paths: object) -> list[str]:
    ended = command("cite", *paths, "--json")
    assert ended.code == 0, ended.err
    return [one["key"] for one in json.loads(ended.out)["results"]["references"]]


def test_each_kind_of_result_is_cited(command: Command, tmp_path: Path) -> None:
    model = "wang2024qwen2vl"
    assert cited(command, STORED / "profile") == ["qian2026swiftvlm", model]
    assert cited(command, STORED / "results") == ["qian2026swiftvlm", "liao2025benchmark", model]
    assert cited(command, STORED / "schedule.json") == ["qian2026swiftvlm", model]
    search = write_search(tmp_path / "search")
    assert "chen2024fastv" in cited(command, search)
    curves = write_information(tmp_path / "information")
    assert {"yuan2025shortv", "wang2025horizon"} <= set(cited(command, curves))
    both = cited(command, STORED / "results", search)
    assert both.index("liao2025benchmark") < both.index("chen2024fastv")
    assert len(both) == len(set(both))


def test_the_entries_are_a_file_of_their_own(command: Command, tmp_path: Path) -> None:
    printed = command("cite", STORED / "results")
    assert printed.out.startswith(BIB_MARK)
    assert printed.out.count("@article{") == 3
    for _ in range(2):  # a file of tokenlens is replaced
        ended = command("cite", STORED / "results", "--out", "all.bib")
        assert (ended.code, ended.out) == (0, "3 BibTeX entries: all.bib\n")
    assert (tmp_path / "all.bib").read_text() == printed.out
    comparison = Comparison.load(STORED / "results")
    assert write_references(tmp_path, comparison) == tmp_path / FILE
    assert (tmp_path / FILE).read_text() == printed.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "tokenlens profile"),
        (["nowhere"], "select-layers"),
        (["."], "tokenlens profile"),
        (["mine.bib"], "is not JSON"),
        ([STORED / "profile", "--out", "mine.bib"], "another file"),
        ([STORED / "profile", "--out", "mine.txt"], ".bib"),
    ],
)
def test_what_cannot_be_cited_or_written_is_refused(
    command: Command, tmp_path: Path, arguments: list[object], words: str
) -> None:
    (tmp_path / "mine.bib").write_text("@misc{mine}\n")
    ended = command("cite", *arguments)
    assert ended.code == 2
    assert words in ended.line
    assert (tmp_path / "mine.bib").read_text() == "@misc{mine}\n"
