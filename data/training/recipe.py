"""The recipe in order: tower, word embeddings, a core of layers, and the layers before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from .answers import Stage, train_answers
from .family import Family
from .growth import grow
from .vision import train_tower
from .words import align_words

VISION_STEPS = 600
STAGES = (
    Stage("core", 8, 1400, muon_rate=5e-3, adamw_rate=2e-3, first=3, second=5),
    Stage("deepen", 24, 500, muon_rate=2e-3, adamw_rate=1e-3, first=9, second=15),
)


def train(
    family: Family, folder: Path, device: torch.device, *, pace: float = 1.0, seed: int = 0
) -> PreTrainedModel:
    """Run every stage, or continue from the checkpoints in `folder`; returns the trained model.

    `pace` is the share of every stage's steps that are made; the bundled `tiny-llava` took 0.7.
    """
    torch.manual_seed(seed)
    with device:
        model = family.make_model(STAGES[0].layers)
    model.set_attn_implementation("eager")
    heads = train_tower(family, model, round(pace * VISION_STEPS), folder)
    align_words(family.decoder(model).embed_tokens, heads)
    for number, stage in enumerate(STAGES, start=1):
        torch.manual_seed(seed + number)
        if stage.layers != len(family.decoder(model).layers):
            model = grow(family, model, stage.layers)
        model.set_attn_implementation("eager")
        train_answers(family, model, replace(stage, steps=round(pace * stage.steps)), folder)
    return model
