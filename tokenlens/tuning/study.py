"""The stored trials of a search, in one Optuna journal file, and the next proposals.

The file is an Optuna journal with one line per finished trial, written under a lock. Several
processes may add to one study, and a killed process leaves no partial trial. A running trial is not
in the file: its process holds a lock on its number. The system releases the lock when the process
ends, and the next process can run the same number again. A proposal depends only on the seed, on
its number, and on the finished trials of smaller numbers.
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
from tokenlens.schedule import Schedule
from tokenlens.schedule.effect import effective_schedule
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
except ImportError:  # Windows: only one process may run a study
    fcntl = None

FILE = "study.journal"
NAME = "tokenlens"
_DIRECTIONS: tuple[Literal["maximize"], Literal["minimize"]] = ("maximize", "minimize")
"""Directions of the retained share and of the cost."""
_STATES = {
    "finished": TrialState.COMPLETE,
    "hopeless": TrialState.PRUNED,
    "refused": TrialState.PRUNED,
}
_DRAWS = 40
"""Greatest number of proposals drawn to find a schedule that was not tried yet."""
_KEPT, _PARENTS = 0.8, 5
"""Probability that a parameter is the parent's, and number of the best trials that are parents."""
_WAIT_S = 0.5

Parameters = dict[str, object]
Rank = Callable[[Trial], tuple[float, ...]]


class _Lock:
    """Lock of the operating system on a file; it is released when its process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock, and take it."""
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is not None:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Release the lock."""
        handle, self._handle = self._handle, None  # first: a signal must not close it twice
        if handle is not None:
            os.close(handle)


class Study:
    """The finished trials of a search in a directory.

    Raises `OutputError` where the file cannot be written or does not hold a study.
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
        """All finished trials by their numbers; of a number that was run twice, the first."""
        found: dict[int, Trial] = {}
        for one in self._stored.get_trials(deepcopy=False):
            if "trial" in one.user_attrs:
                trial = Trial.read(one.user_attrs["trial"], one.params)
                found.setdefault(trial.place, trial)
        return [found[place] for place in sorted(found)]

    def add(self, trial: Trial, space: Space) -> None:
        """Store a finished trial as one line of the file."""
        self._stored.add_trial(_frozen(trial, space))

    def claim(self, total: int, over: Callable[[], bool]) -> tuple[int, DirectoryLock] | None:
        """Lock the first number below `total` that is neither finished nor running.

        Waits where other processes run all that are left. None when all have finished, or when
        `over` returns True.
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
        """Context that only one process at a time can enter."""
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
    """The schedule for trial number `place`, its parameters, and the reason where there is none.

    Every third proposal comes from Optuna's multi-objective TPE; the others change some parameters
    of one of the best trials, also by TPE. Where all of these were tried before or exceed the
    budget, proposals are drawn uniformly.

    Args:
        space: space of the proposals.
        before: the finished trials of smaller numbers, in order.
        place: number of the trial.
        seed: seed of the search.
        rank: sort key of finished trials, the best first.
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
    """Some parameters of one of the best trials; empty while no trial in the space has finished."""
    found = [trial for trial in before if trial.finished and trial.parameters]
    best = sorted(found, key=lambda one: (*rank(one), one.place))[:_PARENTS]
    best += [trial for trial in pareto(found) if trial not in best]
    if not best:
        return {}
    parameters = best[int(rng.integers(len(best)))].parameters
    return {name: parameters[name] for name in sorted(parameters) if rng.random() < _KEPT}


def _sampler(seed: int, kept: Parameters, learns: bool) -> optuna.samplers.BaseSampler:
    """Optuna's TPE with some parameters fixed, or a uniform sampler."""
    if not learns:
        return optuna.samplers.RandomSampler(seed=seed)
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=False, multivariate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(kept, sampler) if kept else sampler


def _frozen(trial: Trial, space: Space) -> optuna.trial.FrozenTrial:
    """A trial in Optuna's form."""
    state = _STATES[trial.outcome]
    return optuna.trial.create_trial(
        state=state,
        values=[trial.score, trial.price] if state == TrialState.COMPLETE else None,
        params=dict(trial.parameters),
        distributions=_distributions(space, trial),
        user_attrs={"trial": trial.as_json()},
    )


def _distributions(space: Space, trial: Trial) -> dict[str, BaseDistribution]:
    """Optuna's distributions of a trial's parameters, recorded from the requests of `space`."""
    if not trial.parameters:
        return {}
    asked = optuna.trial.FixedTrial(dict(trial.parameters))
    space.draft(asked)
    return {name: asked.distributions[name] for name in trial.parameters}


def _drop_half_a_line(path: Path) -> None:
    """Delete an incomplete last line, which a process that was killed while writing leaves."""
    if not path.exists():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
