"""What is cited: an entry for every publication that is named, and nothing that is not."""

import re

import pytest

from tokenlens.methods.fastv import single_drop
from tokenlens.methods.method import Method
from tokenlens.models.families import FAMILIES
from tokenlens.registry import IMPORTANCES, METHODS
from tokenlens.schedule.citations import citations, schedule_citations
from tokenlens.schedule.notes import TUNED
from tokenlens.storage.output_claims import BIB_MARK
from tokenlens.wording.references import arxiv_numbers, known_references

FIRST = "qian2026swiftvlm"


def keys(**used: list[str]) -> list[str]:
    return [one.key for one in citations(**used).references]


def test_entries_are_whole_and_named_once() -> None:
    entries = known_references()
    numbers = [one.arxiv for one in entries.values() if one.arxiv]
    assert len(numbers) == len(set(numbers)) >= 20
    for one in entries.values():
        assert re.match(r"@(article|inproceedings|misc)\{[a-z0-9]+,\n", one.bibtex), one.key
        assert one.bibtex.count("{") == one.bibtex.count("}"), one.key
        assert one.bibtex.endswith("\n}"), one.key
        for name in ("title", "author", "year"):
            assert one.bibtex.count(f"\n  {name} = {{") == 1, (one.key, name)
        assert one.arxiv is None or one.arxiv in one.bibtex
        assert not re.search("[{}]", one.title)


@pytest.mark.parametrize("kind", ["methods", "importances"])
def test_every_publication_that_a_source_names_has_an_entry(kind: str) -> None:
    registry = {"methods": METHODS, "importances": IMPORTANCES}[kind]
    assert citations(**{kind: list(registry)}).missing == ()
    named = {number for name in registry for number in arxiv_numbers(registry[name].source)}
    found = {one.arxiv for one in citations(**{kind: list(registry)}).references}
    assert named <= found


def test_a_method_s_own_publication_is_cited_after_that_of_the_bypass() -> None:
    assert keys(methods=["swiftvlm", "random", TUNED]) == [FIRST]
    assert keys(methods=["pdrop", "fastv", "pdrop"]) == [
        FIRST, "xing2024pyramiddrop", "chen2024fastv",
    ]  # fmt: skip
    assert keys(importances=["value-weighted"]) == [FIRST, "kobayashi2020norms"]


def test_the_families_models_have_entries_or_are_named() -> None:
    classes = [family.architecture for family in FAMILIES.values()]
    found = citations(architectures=classes)
    assert len(found.references) == len(classes)  # Mistral 3 has none, SwiftVLM is one more
    assert [sentence for sentence in found.missing if "Mistral3" in sentence] == [*found.missing]


def test_what_has_no_entry_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_session", {})
    method = Method("late", "late", "arXiv 9912.12345.", lambda layers: [0], single_drop)
    METHODS.add("late", method)
    found = citations(methods=["late", "gone@{x"], architectures=["OtherModel"])
    assert [one.key for one in found.references] == [FIRST]
    assert "9912.12345" in found.missing[0]
    assert "'gone@{x'" in found.missing[1]
    assert "OtherModel" in found.missing[2]
    head, _, rest = found.bibtex.partition("\n\n")
    assert head.splitlines()[0] == BIB_MARK
    assert len(head.splitlines()) == 4
    assert all(line.startswith("% ") and "@" not in line for line in head.splitlines())
    assert rest.count("@") == 1


def test_a_schedule_is_cited_by_its_method_model_and_importances() -> None:
    scorer = {"query": "recorded", "layer": 3, "importance": "gradient"}
    content = {
        "method": "divprune",
        "model": {"architecture": "LlavaForConditionalGeneration"},
        "stages": [{"scorer": scorer}, {"scorer": None}],
    }
    assert [one.key for one in schedule_citations([content]).references] == [
        FIRST, "alvar2025divprune", "chefer2021generic", "liu2023llava15",
    ]  # fmt: skip
    plain = {**content, "method": "random", "stages": []}
    assert [one.key for one in schedule_citations([plain]).references] == [FIRST, "liu2023llava15"]
