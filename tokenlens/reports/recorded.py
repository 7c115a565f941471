"""A recording as the explorer shows it: each sample's picture, and the maps of its queries."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenlens.analyses.attention_map import layout_of
from tokenlens.analyses.drawing.token_raster import square_boxes
from tokenlens.errors import ProbeError
from tokenlens.measures.correlation import sample_rank_correlation
from tokenlens.probing.reading import RecordedRows
from tokenlens.reports.asked_maps import token_name
from tokenlens.reports.explored_runs import ASKED
from tokenlens.reports.explorer import MOST_MAP_BYTES, Explorer, photo_bytes
from tokenlens.reports.inline import photograph
from tokenlens.reports.map_data import FINE, map_data, places
from tokenlens.samples.pictures import as_rgb, open_picture
from tokenlens.wording.printable import printable

_NO_PICTURE = "No picture was given; give it as recording.explore(picture)."
_GREY, _SIDE = "#8a8f98", 360


def query_maps(recording: RecordedRows, sample: int, *, heads: bool) -> NDArray[np.float32]:
    """Maps of one sample: float32 [queries, layers, 1 + heads, n_visual], the mean of heads first.

    With `heads` false they are [queries, layers, 1, n_visual].
    """
    rows = (recording.per_head if heads else recording.importance)[sample].numpy()
    if rows.ndim == 2 + heads:
        rows = rows[..., None, :]
    rows = np.moveaxis(rows, -2, 0)
    if heads:
        return np.concatenate([rows.mean(axis=2, keepdims=True), rows], axis=2)
    return np.asarray(rows[:, :, None])


def recorded_explorer(recording: RecordedRows, pictures: Sequence[Image.Image | None]) -> Explorer:
    """The samples of a recording with their pictures; raises `ProbeError` where there is none."""
    count = len(pictures)
    heads, notes = recording.keeps_heads, []
    bytes_of_maps = sum(2 * rows.numel() for rows in (recording.per_head if heads else ()))
    if bytes_of_maps > MOST_MAP_BYTES:
        heads = False
        notes.append("Heads are left out: they would make it too large.")
    samples = [_sample(recording, index, pictures[index], heads, count) for index in range(count)]
    model = {"name": "recording", "chosen": [], "correlations": {}, "arms": []}
    return Explorer.of([model], samples, notes)


def pictures_of(recording: RecordedRows, picture: Any) -> list[Image.Image | None]:
    """The pictures that `Recording.explore` was given, RGB, one per sample; None for none.

    Raises `ProbeError` where nothing was recorded, and for another number of pictures than samples.
    """
    count = len(recording.positions)
    if picture is None:
        return [None] * count
    given = list(picture) if isinstance(picture, list | tuple) else [picture]
    if len(given) != count:
        raise ProbeError(
            f"picture: got {len(given)}, expected {count}, one for each sample of the recording"
        )
    return [_opened(one) for one in given]


def _opened(picture: Any) -> Image.Image:
    if isinstance(picture, str | Path):
        return open_picture(Path(picture))
    return as_rgb(picture if isinstance(picture, Image.Image) else Image.fromarray(picture))


def _sample(
    recording: RecordedRows, index: int, picture: Image.Image | None, heads: bool, together: int
) -> dict[str, Any]:
    """One sample as the explorer's script reads it."""
    maps, words = query_maps(recording, index, heads=heads), _words(recording, index)
    placed = places(_boxes(recording, index))
    missing = None if picture else _NO_PICTURE
    unit = None if recording.holds_attention else recording.unit
    if picture is None:
        across, down = placed["raster"]
        scale = _SIDE / max(across, down)
        picture = Image.new("RGB", (round(across * scale), round(down * scale)), _GREY)
    return {
        "model": 0,
        "id": f"sample {index + 1}",
        "task": "",
        "question": _title(recording, index),
        "answers": [],
        "width": picture.width,
        "height": picture.height,
        "missing": missing,
        "photo": photograph(picture, photo_bytes(together), least_side=0),
        "regions": [],
        "places": [{**placed, "region": []}],
        "maps": {**map_data(maps, words, FINE), "units": [unit] * len(words)},
        "correlations": [sample_rank_correlation(one[:, 0]).round(3).tolist() for one in maps],
        "recall": None,
        "outcomes": [],
    }


def _boxes(recording: RecordedRows, index: int) -> NDArray[np.float64]:
    """What a sample's visual tokens cover; where that is not known, cells of a square."""
    layout = layout_of(recording, index)
    if layout is None:
        return square_boxes(len(recording.positions[index]))
    if len(layout.grid) > 1:
        raise ProbeError(
            f"sample {index} has {len(layout.grid)} pictures, which would cover each other; draw "
            "one of them with recording.plot(image=...)"
        )
    return np.asarray(layout.boxes, dtype=np.float64)


def _title(recording: RecordedRows, index: int) -> str:
    """The text of a sample's queries, without signs that end an answer; its number for none."""
    if recording.importance[index].ndim == 2 or not recording.has_text:
        return f"Sample {index + 1}"
    told = zip(recording.tokens[index], recording.token_ids[index], strict=True)
    text = "".join(piece for piece, token in told if token not in recording.special_ids)
    return printable(text, lines=True).strip() or f"Sample {index + 1}"


def _words(recording: RecordedRows, index: int) -> Sequence[str]:
    """What each query is called: its text, or its place where that is not known."""
    if recording.importance[index].ndim == 2:
        return [ASKED]
    if not recording.has_text:
        return [f"token at {place}" for place in recording.queries[index].tolist()]
    return [token_name(text) for text in recording.tokens[index]]
