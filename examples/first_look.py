"""First look at your model: where its layers look, and when it writes which word."""

import tokenlens as tl

vlm = tl.load("tiny-qwen2-vl")
sample = tl.load_samples("scenes", "held-out", limit=1)[0]
picture = sample.open_image()
inputs = vlm.prepare(picture, sample.question)

with tl.probe(vlm, queries="generated") as recording:
    answer = vlm.model.generate(**inputs, max_new_tokens=16)
print(sample.question, "→", *vlm.decode(answer[:, inputs["input_ids"].shape[1] :]))

(importance,) = recording.importance  # float32 [layers, queries, n_visual]
for layer in (6, 9, 15):
    share, token = importance[layer - 1, 0].max(dim=0)
    print(f"layer {layer}: {share:.1%} on visual token {int(token) + 1}")
recording.plot(layer=9, query=0, picture=picture).savefig("first-look.png")
print("first-look.png")
