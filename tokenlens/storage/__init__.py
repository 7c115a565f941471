"""Files, the directories that runs write, and the versions they were written by."""
