"""Speed and memory of pruned models, side by side with the unpruned one in one run."""
