"""Workers: processes on one machine or many that each hold the model, run by Ray Data.

The process that starts them reads samples, hands out tasks and writes files; it computes no task
itself. What a worker finds depends on its task alone, so that the number of workers, and the order
in which they finish, change no result.
"""

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from tokenlens.errors import OptionError, TokenlensError, WorkerError
from tokenlens.workers.cluster import connect, prepare, used

LOCAL = "local"
"""The address of workers on this machine."""
Work = Callable[[Any], Iterator[Any]]
"""What a worker does: from a task to its results."""


@dataclass(frozen=True)
class Workers:
    """How many workers there are, and where.

    Attributes:
        count: Workers, each with a copy of the model.
        load: Called once in each worker; gives the model. It must be possible to pickle it, such as
            `functools.partial(tl.load, "qwen2-vl-2b")`.
        address: Address of a running Ray cluster, such as "auto" or "ray://head:10001"; "local"
            starts a cluster on this machine, which ends with this process.
        gpus: GPUs of each worker; a share, such as 0.5, puts several workers on one.
        cpus: CPU cores of each worker, which are also its threads.
        device: Kind of device that `load` puts the model on, such as "cuda", by which answers are
            kept; by default "cuda" where workers have GPUs, else "cpu".

    Raises:
        OptionError: Ray is not installed, or a number is out of range.
    """

    count: int
    load: Callable[[], Any]
    address: str = LOCAL
    gpus: float = 0.0
    cpus: int = 1
    device: str = ""

    @property
    def device_type(self) -> str:
        """The kind of device that workers compute on."""
        return self.device or ("cuda" if self.gpus else "cpu")

    def __post_init__(self) -> None:
        if self.count < 1 or self.cpus < 1 or self.gpus < 0:
            raise OptionError(
                f"workers: got {self.count} with {self.cpus} cores and {self.gpus:g} GPUs each; "
                "expected at least one worker, one core, and no negative number of GPUs"
            )
        if find_spec("ray") is None:
            raise OptionError('workers need Ray; install it with: pip install "tokenlens[ray]"')

    def map(self, start: Callable[[], Work], tasks: Sequence[Any]) -> Iterator[list[Any]]:
        """Results of every task, in the order of the tasks.

        A worker that dies is started again, and its task repeated.

        Args:
            start: Called once in each worker; gives what the worker does.
            tasks: Whatever can be pickled.

        Raises:
            TokenlensError: What `start` or a task raised in a worker.
            WorkerError: The cluster cannot be reached or is lost, or a worker fails otherwise.
        """
        if not tasks:
            return
        prepare()
        from ray.exceptions import RayError

        try:
            for row in used(self._connect, partial(self._rows, pickle.dumps(start), tasks)):
                found, error = pickle.loads(row["results"])  # noqa: S301 - a worker's own
                if error is not None:
                    raise error
                yield found
        except (RayError, ConnectionError, TimeoutError, RuntimeError) as error:
            raise WorkerError(
                f"the workers at {self.address!r} are lost ({_reason(error)}); what is written is "
                "kept: see that the cluster runs, and give the same command again"
            ) from error

    def _connect(self) -> None:
        connect(None if self.address == LOCAL else self.address, self.count * self.cpus + 1)

    def _rows(self, start: bytes, tasks: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """A row of pickled results for every task."""
        import ray

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        rows = [{"task": pickle.dumps(task)} for task in tasks]
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            fn_constructor_args=(start,),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(self.count, len(rows))),
            num_cpus=self.cpus,
            num_gpus=self.gpus,
        )
        yield from results.iter_rows()


class _Worker:
    """One worker's process, as Ray Data wants it: tasks and results are pickled values of rows."""

    def __init__(self, start: bytes) -> None:
        self._work, self._error = _attempt(
            lambda: pickle.loads(start)()  # noqa: S301 - from the process that started it
        )

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[bytes]]:
        found, error = None, self._error
        if error is None:
            found, error = _attempt(
                lambda: list(self._work(pickle.loads(rows["task"][0])))  # noqa: S301 - likewise
            )
        return {"results": [pickle.dumps((found, error))]}


def _attempt(act: Callable[[], Any]) -> tuple[Any, TokenlensError | None]:
    """What an act gives, or its error, kept for the process that asked: Ray would try again."""
    try:
        return act(), None
    except TokenlensError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - raised again, in the process that asked
        return None, WorkerError(
            f"a worker failed ({type(error).__name__}: {_reason(error)}); give the same command "
            "without --workers to see where"
        )


def _reason(error: BaseException) -> str:
    """The last line of an error of Ray, which quotes the whole traceback of a worker."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
