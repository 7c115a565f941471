"""Choose layers by a profile, and answer with the pruned model."""

from tempfile import mkdtemp

import tokenlens as tl

vlm = tl.load("tiny-qwen2-vl")
profile = tl.profile_samples(vlm, tl.load_samples("scenes", limit=16), mkdtemp())
selection = tl.plan(profile, stages=3, budget="33%")
print("layers", selection.layers, "of", profile.layers)
selection.schedule.save("schedule.json")

held_out = tl.load_samples("scenes", "held-out", limit=8)
for name, schedule in {"unpruned": None, "pruned": tl.Schedule.load("schedule.json")}.items():
    results = tl.evaluate(vlm, held_out, schedule)
    tokens = results.tokens_per_layer.mean()
    score = results.rows["score"].mean()
    print(f"{name}: score {score:.2f} of {len(held_out)}, {tokens:.0f} visual tokens per layer")
