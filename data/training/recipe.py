"""The recipe in order: the tower, the words, a core that reads, and the layers below it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from .answers import Stage, train_answers
from .family import Family
from .growth import grow
from .vision import train_tower
from .words import align_words

STAGES = (
    Stage("core", 8, 1400, muon_rate=5e-3, adamw_rate=2e-3, first=3, second=5),
    Stage("deepen", 24, 500, muon_rate=2e-3, adamw_rate=1e-3, first=9, second=15),
)


def train(family: Family, folder: Path, device: torch.device, seed: int = 0) -> PreTrainedModel:
    """Run every stage, taking up what is in `folder` already; returns the trained model."""
    torch.manual_seed(seed)
    with device:
        model = family.make_model(STAGES[0].layers)
    heads = train_tower(family, model, folder)
    align_words(family.decoder(model).embed_tokens, heads)
    for number, stage in enumerate(STAGES, start=1):
        torch.manual_seed(seed + number)
        if stage.layers != len(family.decoder(model).layers):
            model = grow(family, model, stage.layers)
        model.set_attn_implementation("eager")
        train_answers(family, model, stage, folder)
    return model
