"""The scorers of tokenlens, one function in one file each; see `registry.SCORERS`."""
