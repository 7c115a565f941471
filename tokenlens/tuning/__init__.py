"""Finding the schedule: a space of schedules, a search through it, and what it found."""
