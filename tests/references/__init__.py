"""Independent references: each states a rule again and shares no code with what it checks.

- `reference`: Qwen2-VL's decoder in plain torch, full length;
  independent of the engine and of transformers' layers.
- `full_length`: any family's own model at full length;
  independent of the engine, its cache and its masks.
- `published_rules`, `published_vision`: the published methods' choices;
  independent of the engine, its scorers and its disposals.
"""
