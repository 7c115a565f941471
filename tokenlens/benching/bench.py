"""A whole bench: its cells one after the other, each written as soon as it is measured."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel

from tokenlens.benching.comparing import Setting, compare, estimate, schedule_for
from tokenlens.benching.records import Bench
from tokenlens.benching.request import SHAPES, Cell, Request
from tokenlens.benching.shapes import Scaled
from tokenlens.errors import BudgetError, OptionError
from tokenlens.models.loading import load, load_outline
from tokenlens.storage.versions import machine, versions

_QUESTION = "what is it ?"
_SPARE = 0.8
"""The share of the free memory that weights may take; the rest is for activations."""


def identity(request: Request) -> dict[str, Any]:
    """What two benches must have in common so that one continues the other."""
    own = ("methods", "budgets", "batches", "tokens")
    return {
        **{key: value for key, value in asdict(request).items() if key not in own},
        "device": str(_device(request)),
        "device_name": _name(_device(request)),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "machine": {key: told for key, told in machine().items() if key != "executable"},
    }


def missing_cells(request: Request, out: Path) -> list[Cell]:
    """The cells that `run_bench` would measure; raises what it raises before it loads weights."""
    bench = Bench.open(out, identity(request))
    missing = [cell for cell in request.cells() if cell not in bench]
    _Source(request).check(missing)
    return missing


def run_bench(request: Request, out: Path, tell: Callable[[Cell], None]) -> Bench:
    """Measure the cells of a request that `out` does not hold yet, a method's budgets together.

    Args:
        request: checked.
        out: a JSON file, sealed; one that is there is continued.
        tell: called with each cell as it begins.

    Returns:
        All cells of the file.

    Raises:
        ResultsError: `out` is damaged, or of other options, another machine or other versions.
        ModelError: a model that cannot be loaded.
        OptionError: a number of tokens that no square picture has, a width without heads, a method
            that shrinks pictures.
        BudgetError: a method cannot reach a budget on so few layers; nothing is measured then.
    """
    bench = Bench.open(out, identity(request))
    source = _Source(request)
    missing = [cell for cell in request.cells() if cell not in bench]
    source.check(missing)
    for _, group in groupby(missing, lambda cell: (cell.tokens, cell.batch, cell.method)):
        cells = list(group)
        for cell in cells:
            tell(cell)
        for cell, row in zip(cells, source.rows(cells), strict=True):
            bench.add(cell, row)
    return bench


class _Source:
    """The model of a request, held in memory from one cell to the next of the same inputs."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.device, self.dtype = _device(request), getattr(torch, request.dtype)
        self._made: tuple[tuple[int | None, int], Setting] | None = None
        self._outlines: dict[int | None, tuple[PreTrainedModel, int, int]] = {}
        self.depth = None
        if request.like is not None:
            self.shape = Scaled.of(request.like, request.layers, request.width)
            self.depth = SHAPES[request.like].layers

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise what the schedule of one of the cells would, before weights are loaded."""
        for cell in cells:
            model, visual, text = self._outline(cell.tokens)
            try:
                schedule = schedule_for(model, cell, visual, text, self.depth)
            except BudgetError as error:
                raise BudgetError(f"{cell}: {error}") from error
            if schedule.image_scale is not None:
                raise OptionError(
                    f"--methods: {cell.method} shrinks pictures and prunes nothing of the same "
                    "inputs, which a bench times; leave it out, or time it with `tokenlens run "
                    f"--compare {cell.method}`"
                )

    def _outline(self, tokens: int | None) -> tuple[PreTrainedModel, int, int]:
        """The model without weights, and visual and text tokens of a prompt; made once for each."""
        if tokens not in self._outlines:
            self._outlines[tokens] = self._make_outline(tokens)
        return self._outlines[tokens]

    def _make_outline(self, tokens: int | None) -> tuple[PreTrainedModel, int, int]:
        request = self.request
        if tokens is None:
            vlm = load_outline(str(request.model), dtype=request.dtype)
            prompt = Setting(vlm.model, vlm.prepare([_picture()], [_QUESTION]))
            return vlm.model, prompt.visual, prompt.text
        return self.shape.build(tokens, torch.device("meta"), self.dtype), tokens, request.text

    def rows(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        """What is measured of cells of the same inputs, or estimated where weights do not fit."""
        request, tokens = self.request, cells[0].tokens
        if tokens is not None:
            outline, _, _ = self._outline(tokens)
            weights = sum(one.numel() * one.element_size() for one in outline.parameters())
            free = free_bytes(self.device)
            held = self._made is not None and self._made[0][0] == tokens
            if not held and free is not None and weights > _SPARE * free:
                return [
                    {"estimate": True, **estimate(outline, cell, request.text, self.depth)}
                    for cell in cells
                ]
        found = compare(self._setting(cells[0]), cells, request.rounds, request.decode)
        return [{"estimate": False, **row} for row in found]

    def _setting(self, cell: Cell) -> Setting:
        wanted = (cell.tokens, cell.batch)
        if self._made is None or self._made[0] != wanted:
            self._made = wanted, self._make(cell)
        return self._made[1]

    def _make(self, cell: Cell) -> Setting:
        request = self.request
        same = self._made is not None and self._made[0][0] == cell.tokens
        held = self._made[1].model if same and self._made is not None else None
        self._made = None  # the old model goes before a new one comes
        if cell.tokens is None:
            vlm = load(str(request.model), device=request.device, dtype=request.dtype)
            return Setting(
                vlm.model, vlm.prepare([_picture()] * cell.batch, [_QUESTION] * cell.batch)
            )
        model = held or self.shape.build(cell.tokens, self.device, self.dtype)
        model.set_attn_implementation({"text_config": request.attention})
        inputs = self.shape.inputs(model, cell.batch, cell.tokens, request.text)
        return Setting(model, inputs, self.depth)


def _picture() -> Image.Image:
    return Image.effect_noise((336, 336), 64).convert("RGB")


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a device; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, LookupError, ValueError):
        return None


def _device(request: Request) -> torch.device:
    if request.device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(request.device)
    except RuntimeError as error:
        raise OptionError(
            f"--device: got {request.device!r:.60}, expected cpu, cuda or cuda:1"
        ) from error
    if device.type not in ("cpu", "cuda") or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise OptionError(f"--device: {device} is not here; expected cpu, or a GPU that is")
    return device


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
