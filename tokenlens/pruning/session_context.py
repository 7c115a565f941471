"""Values that all forward passes of a pruning context share, computed once when it is entered."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedConfig

from tokenlens.pruning.attention import Listener
from tokenlens.pruning.cache import Lease
from tokenlens.pruning.positions import Rotary
from tokenlens.pruning.scoring import DirectScoring
from tokenlens.pruning.trace import Trace
from tokenlens.pruning.vision_tower import TowerReader
from tokenlens.registry import SCORERS
from tokenlens.schedule import Schedule, Stage


@dataclass(frozen=True, eq=False)
class SessionContext:
    """Values that all forward passes of a pruning context share.

    Attributes:
        config: configuration of the text decoder.
        windows: the sliding window of each decoder layer in tokens, None where there is none.
        element_size: bytes of one number in the key-value cache.
        featured: of how many first layers the model adds visual features to the outputs.
        flat: whether the model's attention wants [batch, keys] masks (FlashAttention).
        tower_reader: reads the vision tower, where the schedule asks for it.
    """

    schedule: Schedule
    config: PreTrainedConfig
    windows: list[int | None]
    element_size: int
    featured: int
    listener: Listener
    rotary: Rotary
    lease: Lease
    trace: Trace
    flat: bool
    tower_reader: TowerReader | None = None

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return len(self.windows)

    @cached_property
    def cut_before(self) -> Mapping[int, list[Stage]]:
        """The stages that take tokens away before a layer, by its number."""
        return _by_layer({stage: stage.first_layer for stage in self.schedule.stages})

    @cached_property
    def read_at(self) -> Mapping[int, list[Stage]]:
        """The stages "after" a layer that are scored from its attention, by its number."""
        return _by_layer(
            {
                stage: stage.score_layer
                for stage in self.schedule.stages
                if stage.when == "after"
                and not isinstance(SCORERS[self.schedule.scorer_of(stage).query], DirectScoring)
            }
        )


def _by_layer(layers: Mapping[Stage, int]) -> dict[int, list[Stage]]:
    found: dict[int, list[Stage]] = {}
    for stage, layer in layers.items():
        found.setdefault(layer, []).append(stage)
    return found
