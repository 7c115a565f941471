"""The `tokenlens` command: one file per sub-command, no logic of its own."""
