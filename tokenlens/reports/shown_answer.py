"""The answer about one photograph, with an attention map of each word."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL.Image import Image

from tokenlens.analyses import kept_tokens
from tokenlens.errors import ModelError
from tokenlens.evaluation.running.generation import Prepared
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.models.layout import Layout
from tokenlens.models.vlm import VLM
from tokenlens.probing.recording import Recording, probe
from tokenlens.progress import progress
from tokenlens.reports.recorded import query_maps
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule

_MOST_VALUES = 2**26
"""Greatest count of numbers in the maps of all heads; above it, heads are averaged."""
_NO_LATIN = 0x2E80
"""First code point of the scripts written without spaces between words."""


@dataclass(frozen=True)
class ShownAnswer:
    """Content of the page for one photograph.

    Attributes:
        name: name of the photograph's file.
        question: the question as the model received it.
        image: the photograph in RGB, as displayed.
        boxes: float64 [n_visual, 4], the area that each visual token covers, xyxy as fractions.
        answer: answer of the unpruned model.
        words: words of the answer.
        maps: float32 [words, layers, 1 + heads, n_visual], the mean of the heads first; [words,
            layers, 1, n_visual] where there would be too many.
        pruned: answer of the pruned model; None without a schedule.
        stages: the fate of every token at every stage, in the form of `kept_tokens.compute`; None
            without a schedule.
    """

    name: str
    question: str
    image: Image
    boxes: NDArray[np.float64]
    answer: str
    words: tuple[str, ...]
    maps: NDArray[np.float32]
    pruned: str | None = None
    stages: pd.DataFrame | None = None

    @property
    def mean(self) -> NDArray[np.float32]:
        """The mean map over words, layers and heads: float32 [n_visual]."""
        mean: NDArray[np.float32] = self.maps[:, :, 0].mean(axis=(0, 1))
        return mean


def answer_photos(
    vlm: VLM,
    photos: Sequence[Path],
    question: str,
    schedule: Schedule | None = None,
    *,
    max_new_tokens: int = 32,
    any_model: bool = False,
    show_progress: bool = False,
) -> list[ShownAnswer]:
    """Ask the same question about several photographs; see `answer_photo`."""
    shown = []
    with progress("show", len(photos), show=show_progress and len(photos) > 1) as advance:
        for photo in photos:
            shown.append(
                answer_photo(
                    vlm,
                    photo,
                    question,
                    schedule,
                    max_new_tokens=max_new_tokens,
                    any_model=any_model,
                )
            )
            advance()
    return shown


def answer_photo(
    vlm: VLM,
    photo: Path,
    question: str,
    schedule: Schedule | None = None,
    *,
    max_new_tokens: int = 32,
    any_model: bool = False,
) -> ShownAnswer:
    """Ask about a photograph, and record the attention map of each word of the answer.

    With a schedule the pruned model answers too. Raises `SampleError` for a photograph that cannot
    be used, `ModelError` for a family whose visual tokens cannot be placed in the picture, and
    `ScheduleError` for a schedule of another model.
    """
    sample = Sample(id=photo.name, image=photo, question=question)
    prepared = Prepared(vlm, [sample])
    batch, options = prepared.batch(None), RunOptions(max_new_tokens=max_new_tokens)
    (layout,) = batch.layouts
    if not layout.placed:
        raise ModelError(
            f"{vlm.architecture} is of no known family, so that its visual tokens cannot be placed "
            "in the picture; `tokenlens models` lists the families"
        )
    heads = _heads(vlm, layout, max_new_tokens)
    with probe(vlm, queries="generated", per_head=heads) as recording:
        (plain,) = prepared.answer(None, options)
    words, maps = _words(recording, heads)
    pruned, stages = None, None
    if schedule is not None:
        options = RunOptions(max_new_tokens=max_new_tokens, any_model=any_model)
        (cut,) = prepared.answer(schedule, options)
        pruned = cut.prediction
        own = prepared.batch(schedule).layouts[0]
        row = {"id": sample.id, "question": question, "selected": json.dumps(cut.selected)}
        stages = kept_tokens.compute([{**row, **_places(own)}], schedule)
    return ShownAnswer(
        name=photo.name,
        question=question,
        image=batch.pictures[0][0],
        boxes=layout.boxes.numpy().astype(np.float64),
        answer=plain.prediction,
        words=words,
        maps=maps,
        pruned=pruned,
        stages=stages,
    )


def join_pieces(pieces: Sequence[str]) -> list[list[int]]:
    """The tokens of each word: consecutive pieces without a space between them form one word.

    >>> join_pieces([" a", " red", "dish", " (83", ",", "12"])
    [[0], [1, 2], [3], [4], [5]]
    """
    words: list[list[int]] = []
    for index, piece in enumerate(pieces):
        goes_on = index > 0 and _letter(pieces[index - 1][-1:]) and _letter(piece[:1])
        if goes_on:
            words[-1].append(index)
        else:
            words.append([index])
    return words


def _letter(sign: str) -> bool:
    return sign.isalpha() and ord(sign) < _NO_LATIN


def _heads(vlm: VLM, layout: Layout, tokens: int) -> bool:
    heads = int(vlm.decoder_config.num_attention_heads)
    return vlm.layers * heads * tokens * len(layout.positions) <= _MOST_VALUES


def _words(recording: Recording, heads: bool) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The words of the answer, and for each word the mean map of its tokens."""
    (pieces,), (ids,) = recording.tokens, recording.token_ids
    special = recording.special_ids
    shown = [index for index, token in enumerate(ids) if token not in special]
    shown = shown or [0]
    rows = query_maps(recording, 0, heads=heads)
    groups = [[shown[index] for index in word] for word in join_pieces([pieces[i] for i in shown])]
    texts = tuple("".join(pieces[index] for index in word).strip() or "␣" for word in groups)
    return texts, np.stack([rows[word].mean(axis=0) for word in groups]).astype(np.float32)


def _places(layout: Layout) -> dict[str, object]:
    return {"positions": layout.positions.numpy(), "boxes": layout.boxes.numpy()}
