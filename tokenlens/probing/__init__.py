"""Recording T–V attention, and the profile it is stored in."""
