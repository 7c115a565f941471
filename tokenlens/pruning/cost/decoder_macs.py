"""Counter of a schedule's MACs in one decoder, for budgets in MACs."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedModel

from tokenlens.errors import BudgetError
from tokenlens.models.loading import load_outline
from tokenlens.models.prompt_lengths import PromptLengths, typical_prompt
from tokenlens.models.structure import text_config, unwrap
from tokenlens.models.vlm import VLM
from tokenlens.pruning.cost.forecast import forecast
from tokenlens.schedule import ModelRef, Scorer, Stage


@dataclass(frozen=True)
class DecoderMacs:
    """Counts the MACs of stages in one decoder, for budgets in MACs.

    Attributes:
        config: configuration of the text decoder.
        prompt: lengths of its typical prompt; the number of visual tokens is given for each count.
    """

    config: PreTrainedConfig
    prompt: PromptLengths

    @classmethod
    def of(cls, model: "VLM | PreTrainedModel", n_text: int | None = None) -> "DecoderMacs":
        """For a model's typical prompt, or one with `n_text` text tokens.

        Where there is no processor, all text stands after the picture. Raises `BudgetError` where
        neither a processor nor `n_text` says how much text there is.
        """
        if n_text is not None and n_text < 1:
            raise BudgetError(f"n_text: got {n_text}, expected at least one text token")
        prompt = PromptLengths(0, 0, 1)
        if isinstance(model, VLM) and model.processor is not None:
            prompt = typical_prompt(model)
        elif n_text is None:
            raise BudgetError(
                "n_text: got none for a model without a processor, expected the number of text "
                "tokens of its prompts: MACs depend on it"
            )
        if n_text is not None:
            prompt = prompt.with_text(n_text)
        return cls(text_config(unwrap(model)), prompt)

    @property
    def text(self) -> int:
        """Text tokens of the prompt."""
        return self.prompt.text

    def macs(self, stages: Sequence[Stage], scorer: Scorer, n_visual: int) -> float:
        """MACs of a prefill with `n_visual` visual tokens, scoring and merging included."""
        prompt = self.prompt._replace(visual=n_visual)
        return forecast(stages, scorer, self.config, prompt).macs.total


def decoder_macs_of(reference: ModelRef) -> DecoderMacs:
    """Counter for the typical prompt of a model named by `reference`, without its weights.

    Raises `BudgetError` where the reference has no name or the name now belongs to another model,
    `ModelError` where the model cannot be found.
    """
    if reference.id is None:
        raise BudgetError(
            "budget: the profile is of a model without a name, so what its layers cost cannot be "
            "looked up; give a budget in tokens, or profile the model by its name or directory"
        )
    outline = load_outline(reference.id, revision=reference.revision)
    found = ModelRef.of(outline)
    if (found.architecture, found.layers) != (reference.architecture, reference.layers):
        raise BudgetError(
            f"budget: {reference.id} is now a {found.architecture} of {found.layers} layers, the "
            f"profile is of a {reference.architecture} of {reference.layers}; profile it again, or "
            "give a budget in tokens"
        )
    return DecoderMacs.of(outline)
