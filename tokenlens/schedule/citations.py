"""What to cite for a result: the publications of its methods, importances and models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenlens.registry import IMPORTANCES, METHODS
from tokenlens.schedule.notes import TUNED
from tokenlens.storage.output_claims import BIB_MARK
from tokenlens.wording.references import Reference, arxiv_numbers, known_references

_SWIFTVLM = "qian2026swiftvlm"
_MODELS = {
    "Qwen2VLForConditionalGeneration": "wang2024qwen2vl",
    "Qwen2_5_VLForConditionalGeneration": "bai2025qwen25vl",
    "Qwen3VLForConditionalGeneration": "bai2025qwen3vl",
    "LlavaForConditionalGeneration": "liu2023llava15",
    "LlavaNextForConditionalGeneration": "liu2024llavanext",
    "LlavaOnevisionForConditionalGeneration": "li2024llavaonevision",
    "InternVLForConditionalGeneration": "zhu2025internvl3",
    "SmolVLMForConditionalGeneration": "marafioti2025smolvlm",
    "Idefics3ForConditionalGeneration": "laurencon2024idefics3",
    "Gemma3ForConditionalGeneration": "gemma2025gemma3",
    "PaliGemmaForConditionalGeneration": "beyer2024paligemma",
}
"""The publication of an architecture."""


@dataclass(frozen=True)
class Citations:
    """The publications of a result.

    Attributes:
        references: those with a BibTeX entry, each once; SwiftVLM's, whose method tokenlens
            implements, is the first.
        missing: what was published, but has no entry here: a sentence each.
    """

    references: tuple[Reference, ...]
    missing: tuple[str, ...] = ()

    @property
    def bibtex(self) -> str:
        """The entries as the text of a `.bib` file, with `missing` as comments."""
        said = (f"% {sentence}".replace("@", "(at)") for sentence in self.missing)
        comments = "\n".join([BIB_MARK, *said])
        return "\n\n".join([comments, *(one.bibtex for one in self.references)]) + "\n"


def citations(
    *,
    methods: Iterable[str] = (),
    importances: Iterable[str] = (),
    architectures: Iterable[str] = (),
) -> Citations:
    """What to cite for methods and importances by name, and for the architectures of models.

    The sources of methods and importances name their publications by arXiv number; a source without
    a number is no publication. `ScheduleError` where another package's method cannot be loaded.

    >>> [one.key for one in citations(methods=["fastv", "random"]).references]
    ['qian2026swiftvlm', 'chen2024fastv']
    """
    known = known_references()
    by_number = {one.arxiv: one.key for one in known.values() if one.arxiv}
    keys, missing = [_SWIFTVLM], []
    for kind, registry, names in (
        ("method", METHODS, methods),
        ("importance", IMPORTANCES, importances),
    ):
        for name in dict.fromkeys(names):
            if name == TUNED:
                continue
            if name not in registry:
                missing.append(f"The {kind} {name!r} is unknown here; cite it if it is published.")
                continue
            for number in arxiv_numbers(registry[name].source):
                if number in by_number:
                    keys.append(by_number[number])
                else:
                    missing.append(f"The {kind} {name!r} names arXiv {number}; cite that as well.")
    for name in dict.fromkeys(architectures):
        if name in _MODELS:
            keys.append(_MODELS[name])
        else:
            missing.append(f"The model's class {name} has no entry here; cite its publication.")
    return Citations(tuple(known[key] for key in dict.fromkeys(keys)), tuple(missing))


def schedule_citations(
    schedules: Iterable[Mapping[str, Any]],
    *,
    methods: Iterable[str] = (),
    importances: Iterable[str] = (),
    architectures: Iterable[str] = (),
) -> Citations:
    """What to cite for schedules, given as the content of their files, and for what else is named.

    Raises as `citations`.
    """
    contents = list(schedules)
    parts = [part for one in contents for part in (one, *one.get("stages", ()))]
    told = [(part.get("scorer") or {}).get("importance") for part in parts]
    return citations(
        methods=[*(one["method"] for one in contents), *methods],
        importances=[*(name for name in told if name is not None), *importances],
        architectures=[*(one["model"]["architecture"] for one in contents), *architectures],
    )
