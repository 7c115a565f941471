"""The unpruned model and pruned ones side by side: arms, statistics, tables, times."""
