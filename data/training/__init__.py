"""How `tiny-qwen2-vl` was trained; `python -m tokenlens.data.training --out DIR` does it again."""
