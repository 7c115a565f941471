"""Teacher forcing: prompts followed by a given answer, run in one forward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from tokenlens.models.greedy import never_answered
from tokenlens.models.vlm import VLM


@dataclass(frozen=True)
class ForcedBatch:
    """A batch of prompts, each followed by an answer, padded on the left.

    Attributes:
        inputs: the model's inputs; those with a value per token are [batch, tokens], where `tokens`
            is the greatest length of prompt and answer.
        lengths: number of tokens of each answer, at least one.
    """

    inputs: Mapping[str, Any]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, inputs: Mapping[str, Any], answers: Sequence[Sequence[int]]) -> Self:
        """Put `answers` (token ids) behind the prompts of `inputs` (padded on the left)."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
        prompts = mask.sum(dim=1).tolist()
        width = max(n + len(answer) for n, answer in zip(prompts, answers, strict=True))
        forced: dict[str, Any] = {}
        for name, value in inputs.items():
            if not isinstance(value, Tensor) or value.shape != ids.shape:
                forced[name] = value
                continue
            beside = _beside(name, value)
            rows = [
                _row(
                    value[index][mask[index]],
                    answer if name == "input_ids" else beside,
                    width,
                    len(answer),
                )
                for index, answer in enumerate(answers)
            ]
            forced[name] = torch.stack(rows)
        return cls(forced, tuple(map(len, answers)))

    def logits(self, vlm: VLM) -> list[Tensor]:
        """Per sample the logits that predict its answer: float32 [answer tokens, vocabulary].

        One forward pass; it is pruned where the caller has opened `tokenlens.prune`. As in
        decoding, tokens that stand for pictures get the lowest logit.
        """
        keep = max(self.lengths) + 1
        with torch.inference_mode():
            out = vlm.model(**self.inputs, use_cache=False, logits_to_keep=keep).logits.float()
            out[..., never_answered(vlm)] = torch.finfo(torch.float32).min
        return [out[index, -length - 1 : -1].cpu() for index, length in enumerate(self.lengths)]


def _beside(name: str, value: Tensor) -> int:
    """What an input other than the ids says of an answer's tokens.

    Types of tokens either mark pictures, and text is 0 (Gemma 3), or they are 0 for all of a
    prompt, whose tokens then read each other, and 1 for what is written after it (PaliGemma).
    """
    if name == "token_type_ids":
        return 0 if bool(value.any()) else 1
    return 1 if name == "attention_mask" else 0


def _row(prompt: Tensor, answer: Sequence[int] | int, width: int, length: int) -> Tensor:
    """A sample's values of one input: padding, prompt, and the answer of `length` tokens."""
    row = prompt.new_zeros(width)
    end = width - length
    row[end - len(prompt) : end] = prompt
    row[end:] = torch.as_tensor(answer, dtype=row.dtype, device=row.device)
    return row
