"""Comparison of the unpruned model with pruned ones: arms, statistics, tables, times."""
