"""Cost of a schedule by the published formulas, for comparison with tokenlens's own count.

All of them count multiply-accumulates and call them FLOPs, assume full multi-head attention in
every layer (4nd² for the projections, 2n²d for attention), and leave out scoring, decoding and the
key-value cache. `Formula.counts` says how they differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from transformers import PreTrainedConfig

from tokenlens.models.prompt_lengths import PromptLengths
from tokenlens.registry import DISPOSALS
from tokenlens.schedule import Stage
from tokenlens.schedule.token_counts import StageCounts, stage_counts, stage_tokens


class Counted(NamedTuple):
    """Inputs of the formulas.

    Attributes:
        tokens: visual tokens entering each layer.
        text: text tokens.
        returns: counts of each stage whose tokens come back, and of the stage that takes them.
        hidden: numbers in a hidden state, d.
        ffn: width of the MLP, m.
    """

    tokens: Sequence[int]
    text: int
    returns: Sequence[tuple[StageCounts, StageCounts]]
    hidden: int
    ffn: int


@dataclass(frozen=True)
class Formula:
    """A published way to count.

    Attributes:
        methods: the methods whose papers use it.
        counts: what it counts, and how that differs from tokenlens's count, in a line.
        macs: computes the MACs of a schedule.
    """

    methods: str
    counts: str
    macs: Callable[[Counted], float]


def layer_macs(n: int, hidden: int, ffn: int, matrices: int) -> int:
    """One layer of `n` tokens: 4nd² + 2n²d + (2 or 3)ndm.

    >>> 32 * layer_macs(576, 4096, 11008, 3)
    3817152184320
    """
    return 4 * n * hidden**2 + 2 * n**2 * hidden + matrices * n * hidden * ffn


def bypass_macs(bypassed: StageCounts, back: StageCounts, hidden: int) -> float:
    """SwiftVLM's term for a bypass: 2RZd + Rd + 2·n_v·d + 2d² + 2(1-r)·n_v·d² (§3.5, eq. 19).

    R tokens bypass the layers and Z merged tokens replace them; n_v tokens are scored when the R
    come back, and a share r of the n_v is kept.
    """
    rest, merged, n_visual = bypassed.rest, bypassed.merged, back.candidates
    grouping = (2 * merged + 1) * rest * hidden
    scoring = 2 * n_visual * hidden + 2 * hidden**2
    return grouping + scoring + 2 * back.rest * hidden**2


def _two_matrices(of: Counted) -> float:
    return sum(layer_macs(n + of.text, of.hidden, of.ffn, 2) for n in of.tokens)


def _three_matrices(of: Counted) -> float:
    return sum(layer_macs(n + of.text, of.hidden, of.ffn, 3) for n in of.tokens)


def _without_text(of: Counted) -> float:
    return _three_matrices(of._replace(text=0))


def _with_bypass(of: Counted) -> float:
    return _three_matrices(of) + sum(
        bypass_macs(bypassed, back, of.hidden) for bypassed, back in of.returns
    )


FORMULAS = (
    Formula(
        "FastV, DivPrune",
        "4nd² + 2n²d + 2ndm, all tokens: two matrices in the MLP where gated ones have three",
        _two_matrices,
    ),
    Formula(
        "PDrop",
        "4nd² + 2n²d + 3ndm, visual tokens only: no text in any layer",
        _without_text,
    ),
    Formula(
        "SparseVLM",
        "4nd² + 2n²d + 3ndm, all tokens: nothing for scoring and merging",
        _three_matrices,
    ),
    Formula(
        "SwiftVLM",
        "the same, and 2RZd + Rd + 2·n_v·d + 2d² + 2(1-r)·n_v·d² for each bypass (eqs. 17 to 19): "
        "keys and values of kept tokens are not made twice, one query is projected, not all",
        _with_bypass,
    ),
)


def published_macs(
    formula: Formula, stages: Sequence[Stage], config: PreTrainedConfig, prompt: PromptLengths
) -> float:
    """MACs of `prompt` under `stages` by a formula; without stages, those of the unpruned model.

    `config` is the text decoder's.
    """
    counts = stage_counts(stages, prompt.visual)
    pairs = zip(stages, counts, counts[1:], strict=False)
    return formula.macs(
        Counted(
            tokens=stage_tokens(stages, prompt.visual, config.num_hidden_layers),
            text=prompt.text,
            returns=[(one, two) for stage, one, two in pairs if DISPOSALS[stage.disposal].returns],
            hidden=config.hidden_size,
            ffn=config.intermediate_size,
        )
    )
