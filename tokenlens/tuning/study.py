"""The trials at rest, in one file of Optuna's, and what it proposes next.

The file is an Optuna journal: one line per finished trial, written under a lock, so that several
processes may add to one study and a killed one leaves nothing half done. A trial that runs is in no
file: its process holds a lock on its number, which the system releases however the process ends, so
that the next process runs the same number again. What is proposed for a number depends on the seed,
on the number, and on the finished trials of smaller numbers, and on nothing else.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import numpy as np

from tokenlens.errors import BudgetError, OptionError, OutputError, ScheduleError
from tokenlens.evaluation.running.cache_key import effective_schedule
from tokenlens.schedule import Schedule
from tokenlens.storage.files import hash_json
from tokenlens.storage.locking import DirectoryLock
from tokenlens.tuning.goal import MISSING
from tokenlens.tuning.space import Space
from tokenlens.tuning.trials import Trial, pareto

try:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.storages.journal import JournalFileBackend, JournalStorage
    from optuna.trial import TrialState
except ImportError as missing:
    raise OptionError(MISSING) from missing

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, where one process alone may run a study
    fcntl = None

FILE = "study.journal"
NAME = "tokenlens"
_DIRECTIONS: tuple[Literal["maximize"], Literal["minimize"]] = ("maximize", "minimize")
"""Of what is retained, and of the cost."""
_STATES = {
    "finished": TrialState.COMPLETE,
    "hopeless": TrialState.PRUNED,
    "refused": TrialState.PRUNED,
}
_DRAWS = 40
"""Proposals that are drawn until one is a schedule that was not tried yet."""
_KEPT, _PARENTS = 0.8, 5
"""Chance by which a parameter is the parent's, and how many of the best are parents."""
_WAIT_S = 0.5

Parameters = dict[str, object]
Rank = Callable[[Trial], tuple[float, ...]]


class _Lock:
    """The system's own lock on a file, which nobody holds who has ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Wait for it."""
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is not None:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Let another process have it."""
        handle, self._handle = self._handle, None  # first, so that a signal closes nothing twice
        if handle is not None:
            os.close(handle)


class Study:
    """The finished trials of a search in a directory.

    Raises `OutputError` where the file cannot be written or is no study.
    """

    def __init__(self, directory: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._claims = directory / "claims"
        path = directory / FILE
        lock = _Lock(directory / f"{FILE}.lock")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            try:
                _drop_half_a_line(path)
            finally:
                lock.release()
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=cast(Any, lock)))
            with suppress(optuna.exceptions.DuplicatedStudyError):
                optuna.create_study(storage=storage, study_name=NAME, directions=_DIRECTIONS)
            self._stored = optuna.load_study(study_name=NAME, storage=storage)
        except OSError as error:
            raise OutputError(
                f"cannot write {directory}: {error.strerror or error}; choose another place with "
                "--out"
            ) from error
        except (ValueError, KeyError, AssertionError) as error:
            raise OutputError(
                f"{path} is damaged or no study of tokenlens; delete it, and what was answered is "
                "read from the kept answers"
            ) from error

    @property
    def trials(self) -> list[Trial]:
        """All that have ended, by their numbers; of a number that was run twice, the first."""
        found: dict[int, Trial] = {}
        for one in self._stored.get_trials(deepcopy=False):
            if "trial" in one.user_attrs:
                trial = Trial.read(one.user_attrs["trial"], one.params)
                found.setdefault(trial.place, trial)
        return [found[place] for place in sorted(found)]

    def add(self, trial: Trial, space: Space) -> None:
        """Keep a trial that has ended: one line of the file."""
        self._stored.add_trial(_frozen(trial, space))

    def claim(self, total: int, over: Callable[[], bool]) -> tuple[int, DirectoryLock] | None:
        """The first number below `total` that no trial has and no process runs, locked.

        Waits where all that are left are run by others. None when all have ended, or `over` says
        that time is.
        """
        while not over():
            ended = {trial.place for trial in self.trials}
            waiting = [place for place in range(total) if place not in ended]
            if not waiting:
                return None
            for place in waiting:
                try:
                    lock = DirectoryLock(self._claims / f"{place:05d}")
                except OutputError:
                    continue
                if place not in {trial.place for trial in self.trials}:
                    return place, lock
                lock.release()
            time.sleep(_WAIT_S)
        return None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process is in here, and be the one that is."""
        while True:
            try:
                lock = DirectoryLock(self._claims / "end")
                break
            except OutputError:
                time.sleep(_WAIT_S)
        with lock:
            yield


def propose(
    space: Space, before: Sequence[Trial], place: int, seed: int, rank: Rank
) -> tuple[Schedule | None, Parameters, str]:
    """The schedule to be tried as number `place`, its parameters, and why there is none.

    Every third one is Optuna's own (multi-objective TPE); the others change some parameters of one
    of the best, drawn likewise. Where all of these are known or too dear, the rest is drawn evenly.

    Args:
        space: what can be tried.
        before: the finished trials of smaller numbers, in order.
        place: the number.
        seed: of the search.
        rank: orders the finished trials, the best first.
    """
    known = {hash_json(effective_schedule(one.schedule)) for one in before if one.schedule}
    history = [_frozen(trial, space) for trial in before]
    parameters, reason = Parameters(), "no new schedule was drawn"
    for draw in range(_DRAWS):
        state = np.random.SeedSequence([seed, place, draw]).generate_state(2)
        by_parent = place % 3 > 0 and draw < _DRAWS // 2
        parent = _parent(before, rank, np.random.default_rng(int(state[1]))) if by_parent else {}
        study = optuna.create_study(
            directions=_DIRECTIONS, sampler=_sampler(int(state[0]), parent, draw < _DRAWS // 2)
        )
        study.add_trials(history)
        trial = study.ask()
        try:
            schedule = space.solve(space.draft(trial))
        except (BudgetError, ScheduleError) as error:
            parameters, reason = dict(trial.params), str(error)
            continue
        if hash_json(effective_schedule(schedule)) not in known:
            return schedule, dict(trial.params), ""
        parameters = dict(trial.params)
    return None, parameters, reason


def _parent(before: Sequence[Trial], rank: Rank, rng: np.random.Generator) -> Parameters:
    """Some parameters of one of the best; none while nothing in the space has finished."""
    found = [trial for trial in before if trial.finished and trial.parameters]
    best = sorted(found, key=lambda one: (*rank(one), one.place))[:_PARENTS]
    best += [trial for trial in pareto(found) if trial not in best]
    if not best:
        return {}
    parameters = best[int(rng.integers(len(best)))].parameters
    return {name: parameters[name] for name in sorted(parameters) if rng.random() < _KEPT}


def _sampler(seed: int, kept: Parameters, learns: bool) -> optuna.samplers.BaseSampler:
    """Optuna's TPE, with some parameters kept; one that draws evenly where nothing is learnt."""
    if not learns:
        return optuna.samplers.RandomSampler(seed=seed)
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=False, multivariate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(kept, sampler) if kept else sampler


def _frozen(trial: Trial, space: Space) -> optuna.trial.FrozenTrial:
    """A trial as Optuna keeps it."""
    state = _STATES[trial.outcome]
    return optuna.trial.create_trial(
        state=state,
        values=[trial.score, trial.price] if state == TrialState.COMPLETE else None,
        params=dict(trial.parameters),
        distributions=_distributions(space, trial),
        user_attrs={"trial": trial.as_json()},
    )


def _distributions(space: Space, trial: Trial) -> dict[str, BaseDistribution]:
    """Of the parameters of a trial: as `space` asks for them."""
    if not trial.parameters:
        return {}
    asked = optuna.trial.FixedTrial(dict(trial.parameters))
    space.draft(asked)
    return {name: asked.distributions[name] for name in trial.parameters}


def _drop_half_a_line(path: Path) -> None:
    """Cut off what a process that was killed while it wrote has left at the end."""
    if not path.exists():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
