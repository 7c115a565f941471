"""Which of lmms-eval's own models generates for which family, and how to watch it do so."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tokenlens.errors import OptionError, PruningError
from tokenlens.schedule import Schedule

WRAPPERS = {
    "gemma3": "gemma3",
    "idefics2": "idefics2",
    "internvl": "internvl_hf",
    "llava": "llava_hf",
    "llava_next": "llava_hf",
    "llava_onevision": "llava_hf",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen2_vl": "qwen2_vl",
    "qwen3_vl": "qwen3_vl",
}
"""By `model_type`: lmms-eval's model whose `.model` is the Hugging Face model of that family."""


def wrapper_of(folder: Path) -> str:
    """Name of lmms-eval's model for the checkpoint in a folder.

    Raises:
        OptionError: It has none that generates by the Hugging Face model.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type")
    if kind not in WRAPPERS:
        raise OptionError(
            f"lmms-eval has no model that is known to run {kind!r}; expected one of "
            f"{', '.join(WRAPPERS)}: use --model tokenlens, or name it by wrapper=NAME"
        )
    return WRAPPERS[kind]


def refuse_unwrappable(model: Any, schedule: Schedule | None, name: str) -> None:
    """Refuse what lmms-eval's model cannot do.

    Raises:
        OptionError: It runs no Hugging Face model, or the schedule has to prepare its inputs.
    """
    if not isinstance(model, PreTrainedModel):
        raise OptionError(
            f"wrapper={name}: its model is a {type(model).__name__}, expected a Hugging Face "
            "model in this process; use --model tokenlens"
        )
    if schedule is None:
        return
    if schedule.image_scale is not None or any(one.query == "recorded" for one in schedule.scorers):
        raise OptionError(
            "schedule: it scales pictures or asks the unpruned model first, which lmms-eval's "
            "models do not; use --model tokenlens"
        )


@contextmanager
def watched(model: PreTrainedModel, asked: int) -> Iterator[None]:
    """Raise what goes wrong in `model.generate` while the context is open.

    Some of lmms-eval's models catch every error of `generate` and answer with an empty text. The
    first such error is raised again at the end, and no more is generated after it.

    Args:
        model: What generates.
        asked: Requests that are answered in the context.

    Raises:
        PruningError: There are requests, and the model was never asked to generate.
    """
    calls = 0
    errors: list[Exception] = []
    generate: Any = model.generate
    own = vars(model).get("generate")

    def recorded(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if errors:
            raise errors[0]
        try:
            return generate(*arguments, **options)
        except Exception as error:
            errors.append(error)
            raise

    vars(model)["generate"] = recorded
    try:
        yield
    finally:
        if own is None:
            del vars(model)["generate"]
        else:
            vars(model)["generate"] = own
    if errors:
        raise errors[0]
    if asked and not calls:
        raise PruningError(
            f"lmms-eval's model answered {asked} requests without `generate` of the model that is "
            "pruned; use --model tokenlens"
        )
