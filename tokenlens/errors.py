"""The errors tokenlens raises: one line each, saying what was wrong, where, and what to do."""


class TokenlensError(Exception):
    """Base of every error a user can mend; the commands print its one line and exit with 2."""


class ModelError(TokenlensError):
    """A model that cannot be found, loaded, or that is not a supported vision-language model."""


class SampleError(TokenlensError):
    """A sample that cannot be used: its picture, its region or its manifest line."""


class ProbeError(TokenlensError):
    """Attention that could not be recorded, or a recording read before it was made."""


class ProfileError(TokenlensError):
    """A profile directory that is missing, unfinished, unreadable or of another run."""


class SelectionError(TokenlensError):
    """Layers that cannot be chosen as asked, with what could be."""


class BudgetError(TokenlensError):
    """A budget no keep ratio can meet, with the range that can be reached."""


class ScheduleError(TokenlensError):
    """A schedule file that is invalid, or that belongs to another model."""


class PruningError(TokenlensError):
    """A run that the engine refuses because it would be silently wrong."""


class ResultsError(TokenlensError):
    """A result directory that is missing, unfinished, unreadable or of another run."""


class OutputError(TokenlensError):
    """A place that cannot be written to, or that holds another run."""


class OptionError(TokenlensError):
    """An option of a command that cannot be used, or that does not go with another."""


class WorkerError(TokenlensError):
    """Workers that cannot be reached, or are lost."""


class TokenlensWarning(UserWarning):
    """What a user should know and can go on with; the command line shows it in one line."""


class DamagedAnswersWarning(TokenlensWarning):
    """A file of kept answers that cannot be read: what it held is asked again."""


class DamagedShardWarning(TokenlensWarning):
    """A file of a run's rows that is not what was written: its rows are made again."""


class UnknownLayoutWarning(TokenlensWarning):
    """A family without an adapter: its visual tokens are known, what they cover is not."""


class SplitWarning(TokenlensWarning):
    """What the split of a benchmark really holds, or which samples of it were left out and why."""


class MissingScriptWarning(TokenlensWarning):
    """A script that no installed font has, so that figures show boxes for its letters."""
