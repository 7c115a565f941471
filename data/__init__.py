"""Data that ships with tokenlens: scenes, tiny models trained on them, and the scripts for both."""
