"""Data that ships with tokenlens: scenes, photographs, tiny models, and their scripts."""
