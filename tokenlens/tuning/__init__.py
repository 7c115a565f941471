"""Search for a schedule: the space of schedules, the search, and its result."""
