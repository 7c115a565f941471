"""The disposals of tokenlens, one function in one file each; see `registry.DISPOSALS`."""
