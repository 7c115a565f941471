"""A batch of samples with the unpruned model's own answers, and what an arm makes of these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from tokenlens.errors import ResultsError
from tokenlens.evaluation.information.teacher_forcing import ForcedBatch
from tokenlens.evaluation.running.generation import Prepared, answer_tokens
from tokenlens.measures.divergence import Floats, kl_divergence, same_top
from tokenlens.models.vlm import VLM
from tokenlens.samples.sample import Sample


class Change(NamedTuple):
    """Of one sample's answer, float64 [answer tokens]: KL in nats, and whether a token stays."""

    kl: Floats
    agreement: Floats


@dataclass(frozen=True)
class Answered:
    """Samples, the inputs that hold their answers, and the unpruned model's logits along these."""

    vlm: VLM
    samples: Sequence[Sample]
    forced: ForcedBatch
    reference: Sequence[Floats]

    @classmethod
    def of(cls, vlm: VLM, samples: Sequence[Sample], max_new_tokens: int) -> Self:
        """Answer a batch greedily, unpruned, and run once along the answers."""
        inputs = Prepared(vlm, samples).batch(None).inputs
        forced = ForcedBatch.of(inputs, answer_tokens(vlm, inputs, max_new_tokens))
        return cls(vlm, samples, forced, [one.numpy() for one in forced.logits(vlm)])

    def changes(self, arm: str) -> list[Change]:
        """What the arm whose context is open changes of every answer, by one forward pass.

        Raises `ResultsError` where a logit is not finite; `arm` is named in it.
        """
        found = []
        for sample, own, other in zip(
            self.samples, self.reference, self.forced.logits(self.vlm), strict=True
        ):
            if not bool(other.isfinite().all()):
                raise ResultsError(
                    f"sample {sample.id!r}: the logits of {arm} are not numbers, so the model "
                    "overflowed there; use --dtype bfloat16 or float32"
                )
            others = other.numpy()
            found.append(Change(kl_divergence(own, others), same_top(own, others)))
        return found
