"""Greedy decoding as tokenlens has a model answer, whatever its own generation config says."""

from torch import Tensor
from transformers import GenerationConfig

from tokenlens.models.structure import image_token_id, video_token_id
from tokenlens.models.vlm import VLM


def greedy_config(vlm: VLM, max_new_tokens: int) -> GenerationConfig:
    """Greedy decoding; these values override the model's own generation config."""
    own = vlm.model.generation_config
    ends = _end_tokens(vlm)
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        use_cache=True,
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        suppress_tokens=never_answered(vlm),
        pad_token_id=own.pad_token_id if own.pad_token_id is not None else min(ends, default=0),
    )


def never_answered(vlm: VLM) -> list[int]:
    """The ids of image and video tokens, which are never generated."""
    tokens = image_token_id(vlm.model), video_token_id(vlm.model)
    return [token for token in tokens if token is not None]


def until_end(vlm: VLM, row: Tensor) -> list[int]:
    """Generated tokens up to the end of the sequence, without the padding after it."""
    tokens, ends = row.tolist(), _end_tokens(vlm)
    end = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: end + 1]


def _end_tokens(vlm: VLM) -> set[int]:
    """The tokens that end an answer."""
    ends = vlm.model.generation_config.eos_token_id
    if ends is None:
        return set()
    return {ends} if isinstance(ends, int) else set(ends)
