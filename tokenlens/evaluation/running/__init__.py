"""Running a model, plain or pruned, over samples, and keeping what it answered."""
