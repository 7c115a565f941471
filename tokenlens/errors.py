"""Errors that tokenlens raises: one line each, with what was wrong, where, and what to do."""


class TokenlensError(Exception):
    """Base of every error that a user can correct; commands print one line and exit with code 2."""


class ModelError(TokenlensError):
    """A model that cannot be found, loaded, or that is not a supported vision-language model."""


class SampleError(TokenlensError):
    """A sample that cannot be used: its picture, its region or its manifest line."""


class ProbeError(TokenlensError):
    """Attention that could not be recorded, or a recording read before it was made."""


class ProfileError(TokenlensError):
    """A profile directory that is missing, unfinished, unreadable or of another run."""


class SelectionError(TokenlensError):
    """Layers that cannot be chosen as requested; the message says what can be chosen."""


class BudgetError(TokenlensError):
    """A budget that no keep ratio can meet; the message gives the range that can be reached."""


class ScheduleError(TokenlensError):
    """A schedule file that is invalid, or that belongs to another model."""


class HubError(TokenlensError):
    """A repository of the hub that cannot be reached, or does not give or take a file."""


class PruningError(TokenlensError):
    """A run that the engine refuses because it would be silently wrong."""


class ResultsError(TokenlensError):
    """A result directory that is missing, unfinished, unreadable or of another run."""


class OutputError(TokenlensError):
    """A file or directory that cannot be written, or a directory that holds another run."""


class OptionError(TokenlensError):
    """An option whose value cannot be used, or that cannot be combined with another option."""


class TrackerError(TokenlensError):
    """An experiment tracker that does not take a run; the results are in their folder."""


class WorkerError(TokenlensError):
    """Workers that cannot be reached, or are lost."""


class TokenlensWarning(UserWarning):
    """Base of all warnings; the work continues, and the command line shows one line."""


class DamagedAnswersWarning(TokenlensWarning):
    """A file of cached answers that cannot be read: its answers are generated again."""


class DamagedShardWarning(TokenlensWarning):
    """A file of a run's rows that differs from what was written: its rows are computed again."""


class UnknownLayoutWarning(TokenlensWarning):
    """A family without an adapter: the picture area that each visual token covers is unknown."""


class SplitWarning(TokenlensWarning):
    """A benchmark split with unexpected content, or samples of it that were left out and why."""


class TextOnlyWarning(TokenlensWarning):
    """Samples without a picture, which are left out of what needs visual tokens."""


class MissingScriptWarning(TokenlensWarning):
    """A writing system that no installed font supports: figures show boxes for its letters."""
