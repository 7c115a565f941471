"""Write a scorer, and run it through the engine."""

import tokenlens as tl
from tokenlens.pruning.scoring import DirectScoring
from tokenlens.registry import SCORERS


def unlike_the_mean(_prompt, tokens, _context, _scorer):
    """Distance from the mean visual token: floats [batch, width]."""
    visual = tokens.slots.visual[..., None]
    mean = (tokens.hidden * visual).sum(1, keepdim=True) / visual.sum(1, keepdim=True)
    return (tokens.hidden - mean).float().norm(dim=-1)


SCORERS.add("unlike", DirectScoring(unlike_the_mean, summary="unlike the mean", sums=False))
vlm = tl.load("tiny-qwen2-vl")
model = {"architecture": vlm.architecture, "layers": vlm.layers}
stage = {"score_layer": 3, "when": "after", "keep": 0.25, "disposal": "drop"}
own = {"schema": 1, "method": "unlike", "model": model, "scorer": {"query": "unlike"}}
held_out = tl.load_samples("scenes", "held-out")[::161]
results = tl.evaluate(vlm, held_out, tl.Schedule(**own, stages=[stage]))
print(f"score {results.rows['score'].mean():.2f} of {len(held_out)} samples")
