"""Compare methods at equal cost on held-out samples, with intervals and blind baselines."""

from tempfile import mkdtemp

import tokenlens as tl

vlm = tl.load("tiny-qwen2-vl")
calibration = tl.load_samples("scenes", "calibration", limit=16)  # chooses the layers
held_out = tl.load_samples("scenes", "held-out")[::161]  # 8 questions about 8 pictures

profile = tl.profile_samples(vlm, calibration, mkdtemp())
methods = ["swiftvlm", "stride", "random"]
comparison = tl.compare(vlm, held_out, methods, "33%", profile=profile, timed=False)

table = comparison.table()
columns = ["arm", "samples", "macs", "retained", "retained_low", "retained_high"]
print(table.loc[table["task"] == "all", columns].round(2).to_string(index=False))
for caution in comparison.cautions:
    print("-", caution)
