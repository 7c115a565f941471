"""What ships with tokenlens: scenes, a tiny model trained on them, and the scripts behind both."""
