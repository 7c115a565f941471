"""Forecast of a schedule's cost in a model from token counts alone: nothing is run."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from tokenlens.errors import BudgetError, ModelError, ScheduleError
from tokenlens.models.prompt_lengths import PromptLengths
from tokenlens.models.structure import text_config, unwrap
from tokenlens.models.vlm import VLM
from tokenlens.pruning.cost.decoder_macs import DecoderMacs
from tokenlens.pruning.cost.forecast import Forecast
from tokenlens.pruning.cost.forecast import forecast as forecast_stages
from tokenlens.schedule import Schedule, require_schedule

_HALF = 2
"""Bytes of a number where a configuration does not say in which type the model computes."""


@dataclass(frozen=True)
class ScheduleForecast(Forecast):
    """The cost of one prompt under a schedule, and that of the unpruned model beside it."""

    unpruned: Forecast


def forecast(
    schedule: Schedule,
    model_or_config: VLM | PreTrainedModel | PreTrainedConfig,
    n_visual: int,
    n_text: int,
) -> ScheduleForecast:
    """The cost of one prompt under `schedule`, counted without running the model.

    Args:
        schedule: for a model of as many layers.
        model_or_config: what is pruned; its weights are not read. With a processor its chat
            template says how much of the text stands before the picture; else all stands after it.
        n_visual: visual tokens of the prompt, before the schedule makes its pictures smaller.
        n_text: all other tokens of the prompt.

    Returns:
        MACs by part, bytes of the key-value cache, and tokens by layer, as `trace.cost` reports
        them of a run of such a prompt.

    Raises:
        ScheduleError: the schedule is for a model of another depth, or is none.
        BudgetError: a number of tokens below one.
        ModelError: neither a model nor a configuration of one.
        PruningError: a stage that the scorer cannot score.
    """
    require_schedule(schedule)
    for name, count in (("n_visual", n_visual), ("n_text", n_text)):
        if type(count) is not int or count < 1:
            raise BudgetError(f"{name}: got {count!r}, expected a number of tokens, at least one")
    config, prompt, size = _of(model_or_config, n_text)
    if schedule.model.layers != config.num_hidden_layers:
        raise ScheduleError(
            f"model.layers: the schedule is for {schedule.model.layers}, this model has "
            f"{config.num_hidden_layers}; make a schedule for it with `tokenlens select-layers`"
        )
    whole = prompt._replace(visual=n_visual)
    shown = prompt._replace(visual=schedule.shown_tokens(n_visual))
    pruned, unpruned = (
        forecast_stages(stages, schedule.scorer, config, tokens, element_size=size)
        for stages, tokens in ((schedule.stages, shown), ((), whole))
    )
    return ScheduleForecast(**vars(pruned), unpruned=unpruned)


def _of(
    model_or_config: VLM | PreTrainedModel | PreTrainedConfig, n_text: int
) -> tuple[PreTrainedConfig, PromptLengths, int]:
    """The text decoder's configuration, a prompt's text, and bytes of a number in the cache."""
    if isinstance(model_or_config, PreTrainedConfig):
        config: Any = model_or_config.get_text_config(decoder=True)
        if not isinstance(getattr(config, "num_hidden_layers", None), int):
            raise ModelError(
                f"{type(model_or_config).__name__} is no configuration of a text decoder; expected "
                "that of a vision-language model, such as model.config"
            )
        dtype = getattr(config, "dtype", None)
        size = dtype.itemsize if isinstance(dtype, torch.dtype) else _HALF
        return config, PromptLengths(0, 0, 1).with_text(n_text), size
    model = unwrap(model_or_config)
    return text_config(model), DecoderMacs.of(model_or_config, n_text).prompt, model.dtype.itemsize
