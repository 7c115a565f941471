"""Refusals: what the engine would do silently wrong, each an error of one line with the remedy."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import is_flash_attention_requested

from tokenlens.errors import PruningError
from tokenlens.models.adapters import required_shrinking, required_tower
from tokenlens.models.structure import decoder, decoder_layers, marked, text_config
from tokenlens.pruning.cost.decoder_cost import windows
from tokenlens.pruning.frozen import refuse_unfreezable
from tokenlens.pruning.scoring import DirectScoring
from tokenlens.pruning.vision_tower import reads_tower
from tokenlens.registry import DISPOSALS, SCORERS
from tokenlens.schedule import MassKeep, Schedule, Scorer, Stage

_UNCACHED = (
    "without a cache every new token is a prefill that prunes anew; leave `use_cache` on, or pass "
    "generate(..., use_cache=True) where the model's generation_config.json turns it off"
)
_PACKING = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")


def refuse_compiled(model: Any) -> None:
    """Refuse compiled models: their graphs do not run the engine's hooks."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    if hasattr(model, "_orig_mod") or any(map(_is_compiled, modules)):
        raise PruningError(
            "the model is compiled (torch.compile), so its layers cannot be pruned; "
            "pass the model as it was before compiling"
        )


def _is_compiled(module: nn.Module) -> bool:
    """By `module.compile()`, or by `module.forward = torch.compile(module.forward)`."""
    forward = vars(module).get("forward")
    wrapped = hasattr(forward, "_torchdynamo_orig_callable")
    kept_out = getattr(forward, "_torchdynamo_disable", False)  # by torch.compiler.disable
    return module._compiled_call_impl is not None or (wrapped and not kept_out)


def refuse_model(model: PreTrainedModel) -> None:
    """Refuse decoders whose layers the engine cannot run on fewer tokens."""
    for number, layer in enumerate(decoder_layers(model), start=1):
        if not isinstance(getattr(layer, "self_attn", None), nn.Module):
            raise PruningError(
                f"decoder layer {number} ({type(layer).__name__}) has no `self_attn`, so its "
                "attention cannot be scored; use a model whose layers have one, such as Qwen2-VL"
            )
    config = text_config(model)
    implementation = config._attn_implementation
    flash = is_flash_attention_requested(config)
    if implementation not in ("sdpa", "eager") and not flash:
        raise PruningError(
            f"attention implementation {implementation!r} is not supported; load the model with "
            "attn_implementation='sdpa', 'eager' or 'flash_attention_2'"
        )
    if flash and any(window is not None for window in windows(config)):
        raise PruningError(
            f"{implementation} counts a sliding window in stored keys, not in positions, so it is "
            "wrong after pruning; load this model with attn_implementation='sdpa'"
        )
    if flash and any(map(_reads_places, decoder_layers(model))):
        raise PruningError(
            f"the layers of {type(decoder(model)).__name__} read `position_ids`, in which "
            f"{implementation} takes the gaps that pruning leaves for ends of sequences; load this "
            "model with attn_implementation='sdpa'"
        )


def _reads_places(layer: nn.Module) -> bool:
    """Whether a layer's attention cannot do without `position_ids`."""
    attention = layer.get_submodule("self_attn")
    parameters = inspect.signature(type(attention).forward).parameters
    return "position_ids" in parameters and (
        parameters["position_ids"].default is inspect.Parameter.empty
    )


def refuse_schedule(schedule: Schedule, model: PreTrainedModel) -> None:
    """Refuse scorers and stages that have no meaning on this model."""
    if schedule.image_scale is not None:
        required_shrinking(model.config)
    if reads_tower(schedule):
        required_tower(model)
    if any(DISPOSALS[stage.disposal].readable for stage in schedule.stages):
        _refuse_freezing(model)
    for place, stage in enumerate(schedule.stages):
        where, scorer = f"stages[{place}]", schedule.scorer_of(stage)
        told = "scorer" if stage.scorer is None else f"{where}.scorer"
        _refuse_scorer(told, scorer, text_config(model).num_attention_heads)
        refuse_unscored(where, stage, scorer)
        if stage.positions == "renumber" and not hasattr(decoder(model), "rotary_emb"):
            raise PruningError(
                f"{where}.positions: 'renumber' needs a decoder with a `rotary_emb`, this one "
                "has none; use 'keep'"
            )


def _refuse_freezing(model: PreTrainedModel) -> None:
    """Refuse to freeze with FlashAttention, which takes no mask of which row sees which key."""
    refuse_unfreezable(model)
    if is_flash_attention_requested(text_config(model)):
        raise PruningError(
            "disposal 'freeze': flash attention cannot attend to frozen tokens between live ones; "
            "load the model with attn_implementation='sdpa'"
        )


def _refuse_scorer(where: str, scorer: Scorer, n_heads: int) -> None:
    if type(scorer.heads) is int and scorer.heads > n_heads:
        raise PruningError(
            f"{where}.heads: got {scorer.heads} heads, expected at most {n_heads} for this model, "
            "or a ratio of its heads such as 0.5"
        )
    for layer, head in scorer.listed_heads:
        if head >= n_heads:
            raise PruningError(
                f"{where}.heads: got head {head} of layer {layer}, expected 0 to {n_heads - 1} "
                "for this model"
            )


def refuse_unscored(where: str, stage: Stage, scorer: Scorer) -> None:
    """Refuse a stage that the scorer cannot score; `where` names it."""
    if isinstance(stage.keep, MassKeep) and not SCORERS[scorer.query].sums:
        raise PruningError(
            f"{where}.keep: got a mass with query {scorer.query!r}, whose importance only says "
            "which tokens go before others; give a ratio or a count, or query 'last'"
        )
    if isinstance(SCORERS[scorer.query], DirectScoring):
        return
    if stage.score_layer == 0:
        raise PruningError(
            f"{where}.score_layer: got 0, where there is no attention to read for query "
            f"{scorer.query!r}; use layer 1 or deeper, or query 'random' or 'uniform'"
        )
    listed = {layer for layer, _ in scorer.listed_heads}
    if listed and stage.score_layer not in listed:
        raise PruningError(
            f"{where}.score_layer: got {stage.score_layer}, of which scorer.heads lists no head; "
            f"add [{stage.score_layer}, head] for each head to read there"
        )


def refuse_call(call: Mapping[str, Any]) -> None:
    """Refuse arguments of a forward pass that mean something else on fewer tokens."""
    if call.get("labels") is not None:
        raise PruningError(
            "`labels` do not match the logits of a pruned sequence; leave them out and compute "
            "the loss from the last logits"
        )
    if isinstance(call.get("logits_to_keep"), Tensor):
        raise PruningError(
            "`logits_to_keep` as a tensor names positions that pruning moves; "
            "pass an integer, counted from the end"
        )
    if any(call.get(name) is not None for name in _PACKING) or _is_packed(call):
        raise PruningError(
            "packed inputs (several sequences in one row) cannot be pruned; "
            "pass one sequence per row, padded on the left"
        )


def refuse_prompt(call: Mapping[str, Any]) -> None:
    """Refuse prompts in which visual tokens cannot be found."""
    if call.get("input_ids") is None:
        raise PruningError(
            "`input_ids` are needed to find the visual tokens; pass them instead of `inputs_embeds`"
        )
    mask = call.get("attention_mask")
    if mask is not None and (not isinstance(mask, Tensor) or mask.ndim != 2):
        raise PruningError(
            "`attention_mask` must be [batch, length] with 0 for padding; the model makes the rest"
        )


def refuse_order_scales(config: PreTrainedConfig, length: int) -> None:
    """Refuse prompts of `length` in which a decoder scales queries by their order in its input.

    Llama 4 counts the tokens that a layer is given, not their positions; below `floor_scale` tokens
    every scale is 1.
    """
    floor = getattr(config, "floor_scale", None)
    if getattr(config, "attn_temperature_tuning", False) and floor and length >= floor:
        raise PruningError(
            f"the prompt has {length} tokens, and from {floor} on this decoder scales queries by "
            "their order among the tokens of a layer, which pruning changes; give a shorter prompt "
            "or fewer pictures, or load it with attn_temperature_tuning=False in its text config"
        )


def refuse_padding(padded: bool) -> None:
    """Refuse prompts whose last tokens are padding, which `padded` says."""
    if padded:
        raise PruningError(
            "the batch is padded on the right, so its last tokens are padding; "
            "pad on the left (tokenizer.padding_side = 'left')"
        )


def refuse_videos(videos: Tensor) -> None:
    """Refuse visual tokens of videos (bool [batch, length]) where the vision tower is read."""
    if bool(videos.any()):
        raise PruningError(
            "the vision tower is read for pictures only, and the prompt holds a video; use "
            "scorer.query 'diverse' or 'uniform' and disposal 'drop' or 'merge'"
        )


def refuse_continuation(
    call: Mapping[str, Any], visual_ids: tuple[int, ...], *, generating: bool
) -> None:
    """Refuse pictures in the input that continues a filled cache.

    `visual_ids` are the ids of their tokens. Image tokens without a picture are allowed: the model,
    or assisted decoding inside `generate()`, may have generated them.
    """
    ids = call.get("input_ids")
    if ids is None:
        return
    pictures = any(
        value is not None and (name.startswith("pixel_values") or name == "mm_encoder_outputs")
        for name, value in call.items()
        if not (isinstance(value, Mapping) and not value)  # what generate() passes for none
    )
    written = generating or ids.shape[1] == 1
    if (pictures or not written) and bool(marked(ids, visual_ids).any()):
        raise PruningError(
            "visual tokens arrived after the cache was filled (chunked prefill, or a picture in a "
            "later turn); pass the whole prompt at once, with an empty cache"
        )


def refuse_generation(model: PreTrainedModel, arguments: Mapping[str, Any]) -> None:
    """Refuse ways to generate in which the prompt is not one prefill."""
    given = arguments.get("generation_config")
    sources = (arguments, vars(given) if given is not None else {}, vars(model.generation_config))

    def option(name: str) -> Any:
        return next((s[name] for s in sources if s.get(name) is not None), None)

    if option("prefill_chunk_size") is not None:
        raise PruningError(
            "`prefill_chunk_size` would score the first chunk as if it were the prompt; "
            "leave it out"
        )
    if option("use_cache") is False:
        raise PruningError(_UNCACHED)
    if option("guidance_scale") not in (None, 1):
        raise PruningError(
            "`guidance_scale` runs the model on a second prompt beside the first, which would be "
            "pruned and traced in its place; leave it out"
        )


def refuse_drafting() -> None:
    """Refuse drafting by a model whose vision tower is read: drafts are given no picture."""
    raise PruningError(
        "the vision tower is read, and a draft model is shown no pictures; leave "
        "`assistant_model` out, give one that is not pruned, or use scorer.query 'diverse' or "
        "'uniform'"
    )


def refuse_uncached(
    layers: Iterable[nn.Module], call: Mapping[str, Any], *, generating: bool
) -> None:
    """Refuse decoding whose cache stays empty: every token would be a prompt of its own."""
    continues = generating or call.get("past_key_values") is not None
    if continues and any(
        layer.training and getattr(layer, "gradient_checkpointing", False) for layer in layers
    ):
        raise PruningError(
            "in train mode with gradient checkpointing the model fills no cache to decode from; "
            "call model.eval() or model.gradient_checkpointing_disable() first"
        )
    if generating and call.get("use_cache") is False:
        raise PruningError(_UNCACHED)


def _is_packed(call: Mapping[str, Any]) -> bool:
    """Whether positions start again within a row, the mark of packed sequences without a mask."""
    positions = call.get("position_ids")
    if not isinstance(positions, Tensor) or call.get("attention_mask") is not None:
        return False
    if positions.ndim == 3:
        if len(positions) != 4:
            return False
        positions = positions[0]
    return bool((positions.diff(dim=-1) < 0).any())
