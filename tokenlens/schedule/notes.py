"""What a schedule notes of itself: the budget it was solved for, and its origin."""

from typing import Annotated

from pydantic import BeforeValidator, Field, StrictStr

from tokenlens.schedule.parts import Count, Part, amount
from tokenlens.wording.figures import percent

TUNED = "tuned"
"""The method of a schedule that `tokenlens tune` found; it is in no registry."""
_check_average = amount(
    "a ratio in (0, 1] such as 0.333, or a number of tokens such as 48", zero=False, largest=1e9
)

_check_macs = amount(
    "a ratio in (0, 1] such as 0.5, or a number of MACs such as 1200000000000",
    zero=False,
    most=10**24,
)


class BudgetNote(Part):
    """The target a schedule was solved for.

    Attributes:
        average: visual tokens entering a layer, mean over all layers: a ratio of the sample's
            visual tokens (a float up to 1), or a number of tokens (an integer, or a float above 1).
            Where the target was in MACs, what it came to.
        n_visual: visual tokens per sample it was solved for; the rounded mean where samples differ.
        macs: a target in MACs of the decoder's prefill, scoring and merging included: a ratio of
            the unpruned prefill's (a float up to 1), or a number (an integer).
        n_text: text tokens per sample that a target in MACs was solved for.
        reached: the value that the stages reach, in the unit of the target, where it differs from
            the target by more than one token and more than 1 %: no other keep ratios come nearer.
    """

    average: Annotated[int | float, BeforeValidator(_check_average)]
    n_visual: Count | None = None
    macs: Annotated[int | float, BeforeValidator(_check_macs)] | None = None
    n_text: Count | None = None
    reached: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @property
    def is_share(self) -> bool:
        """Whether the target is a share of the unpruned model's tokens or MACs."""
        amount = self.average if self.macs is None else self.macs
        return isinstance(amount, float) and amount <= 1

    @property
    def words(self) -> str:
        """The target in words.

        >>> BudgetNote(average=0.33, n_visual=144).words.replace("\N{NO-BREAK SPACE}", " ")
        '33 % of the visual tokens, mean over layers; solved for 144 visual tokens'
        >>> BudgetNote(average=48.5, macs=10**9).words
        '1e+09 MACs, which are 48.5 visual tokens, mean over layers'
        """
        average = f"{self.average:g} visual tokens, mean over layers"
        if isinstance(self.average, float) and self.average <= 1:
            average = f"{percent(self.average, None)} of the visual tokens, mean over layers"
        if self.macs is not None:
            share = isinstance(self.macs, float) and self.macs <= 1
            macs = f"{percent(self.macs, None)} of the" if share else f"{self.macs:.4g}"
            average = f"{macs} MACs, which are {average}"
        prompt = {"visual": self.n_visual, "text": self.n_text}
        told = [f"{count} {kind} tokens" for kind, count in prompt.items() if count is not None]
        return average + (f"; solved for {' and '.join(told)}" if told else "")


class Why(Part):
    """Origin of a schedule.

    Attributes:
        criterion: the criterion that scored the layers.
        scores: the score of every layer.
        relative_to: the meaning of a score of 1.
        data: the data set that the layers were chosen on.
        split: the split of the data set; None where it has none.
        tokenlens: the version of tokenlens.
        date: the date of the choice.
        command: the words of the command line, with the options that settings gave; None where a
            Python program made it.
        cautions: limits of what the samples can show, a sentence each.
    """

    criterion: StrictStr | None = None
    scores: tuple[Annotated[float, Field(strict=True, allow_inf_nan=False)], ...] = ()
    relative_to: StrictStr | None = None
    data: StrictStr | None = None
    split: StrictStr | None = None
    tokenlens: StrictStr | None = None
    date: StrictStr | None = None
    command: tuple[StrictStr, ...] | None = None
    cautions: tuple[StrictStr, ...] | None = None
