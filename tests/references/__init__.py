"""Independent references: none shares code with the library, or with the others' subject."""
