"""Studies that are run as a command: `python -m tokenlens.analyses.studies.NAME`."""
