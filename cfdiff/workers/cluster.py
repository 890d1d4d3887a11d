"""Workers of Ray, on this machine or a cluster: an actor a GPU or some threads, which makes its models once.

Ray places the actors, starts one anew that died, on another machine where its own is gone, and gives it again what it
was doing. Nothing is kept in Ray: a piece either returns its result or has written a file under a name of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

from cfdiff import registry
from cfdiff.errors import UserError
from cfdiff.workers.crew import Elsewhere, P, Shares

RETRIES = 20
"""Deaths of workers on one piece before it is given up: one that takes too much memory would kill them for ever."""
_STUCK = 30.0  # seconds without any result after which idle workers make room for those that wait for a place
_ASKED = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_worker_niceness": "0",  # Ray's 15 lets whatever else runs on the machine go first
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What Ray is asked for where the user's environment says nothing."""


@dataclass(frozen=True)
class Refused:
    """A user's mistake that a worker met, in one sentence: it travels as a value, so that Ray does not try again."""

    why: str


class Worker:
    """What runs in an actor."""

    def __init__(self, folder: str, threads: int, new: registry.Additions, elsewhere: Elsewhere) -> None:
        if (torch := sys.modules.get("torch")) is not None:  # what it was given may have brought it along
            torch.set_num_threads(threads)
        registry.add(new)
        self._refused: Refused | None = None
        try:
            _go_to(folder)
            self._work = elsewhere.make(*elsewhere.given)
        except UserError as error:
            self._refused = Refused(str(error))

    def do(self, piece: Any) -> Any:
        """What a piece comes to, or `Refused`."""
        if self._refused is not None:
            return self._refused
        try:
            return self._work(piece)
        except UserError as error:
            return Refused(str(error))


class RayCrew:
    """A `workers.crew.Crew` of Ray's actors; they start when there is a first piece."""

    def __init__(self, s: Shares, here: Callable[[], Callable[[Any], Any]], elsewhere: Elsewhere) -> None:
        self._ray = _import()
        self._own = not self._ray.is_initialized()
        self._elsewhere = elsewhere
        self._address = s.ray
        if self._own:
            _connect(self._ray, s)
        try:
            self._gpus, self._threads, self._most = _places(self._ray.cluster_resources(), s)
        except BaseException:
            self._leave()
            raise
        self._actors: list[Any] = []

    def __enter__(self) -> RayCrew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        self._leave()

    def _leave(self) -> None:
        if self._own:
            self._ray.shutdown()

    def do(self, pieces: Iterable[P]) -> Iterator[tuple[P, Any]]:
        """Each piece and what it came to, in the order in which they end. A worker has one piece at a time."""
        queue = deque(pieces)
        self._hire(min(self._most, len(queue)))
        idle = list(self._actors)
        busy: dict[Any, tuple[Any, P]] = {}
        while queue or busy:
            while queue and idle:
                actor, piece = idle.pop(0), queue.popleft()
                busy[actor.do.remote(piece)] = actor, piece
            ended, _ = self._ray.wait(list(busy), num_returns=1, timeout=_STUCK)
            if not ended and idle:
                # All that is left may wait with workers whose machine is gone: they find a place when one is free.
                actor = idle.pop()
                self._actors.remove(actor)
                self._ray.kill(actor)
            for ref in ended:
                actor, piece = busy.pop(ref)
                result = self._result(ref, piece)
                idle.append(actor)
                if queue:  # the worker goes on while the caller looks at what it did
                    following = queue.popleft()
                    busy[idle.pop().do.remote(following)] = actor, following
                yield piece, result

    def _hire(self, count: int) -> None:
        """Have that many actors."""
        made = self._ray.remote(
            num_cpus=0 if self._gpus else self._threads,
            num_gpus=self._gpus,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )(Worker)
        while len(self._actors) < count:
            self._actors.append(made.remote(os.getcwd(), self._threads, registry.additions(), self._elsewhere))

    def _result(self, ref: Any, piece: Any) -> Any:
        try:
            result = self._ray.get(ref)
        except self._ray.exceptions.RayActorError as error:
            raise UserError(
                f"The workers died again and again on {piece!r}, perhaps for want of memory: use a smaller "
                f"--batch-size or fewer --workers, and look at Ray's logs ({_first_line(error)})."
            ) from error
        except self._ray.exceptions.RayTaskError as error:
            cause = error.as_instanceof_cause()
            raise cause if isinstance(cause, Exception) else error from None
        if isinstance(result, Refused):
            raise UserError(result.why)
        return result


def _import() -> ModuleType:
    for name, value in _ASKED.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--workers and --ray need Ray, which is not installed: pip install 'cfdiff[ray]', or leave them out."
        ) from error
    return ray


def _connect(ray: ModuleType, s: Shares) -> None:
    """Join the cluster of the settings, or start Ray on this machine with a place for each worker."""
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if s.ray is None:
        places = (s.workers or 1) * _threads_here(s)
        how |= {"address": "local", "num_cpus": places, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        how |= {"address": s.ray}
    told = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**how)
    except Exception as error:  # Ray raises whatever it meets: no host, no session, another version, no answer
        where = "Ray could not be started here" if s.ray is None else f"There is no Ray cluster at {s.ray!r}"
        hint = "try again, or work without --workers" if s.ray is None else "give HOST:PORT of its head (ray start)"
        raise UserError(f"{where} ({_first_line(error)}): {hint}.") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, told)  # Ray brings its own, which says nothing and ends with another code


def _places(there: dict[str, float], s: Shares) -> tuple[int, int, int]:
    """GPUs and threads of a worker, and how many workers there are to be."""
    if s.device.startswith("cuda:"):
        raise UserError(f"--device {s.device} with several workers would be one GPU for all: give --device cuda.")
    cards = int(there.get("GPU", 0))
    if s.device == "cuda" and not cards:
        raise UserError("--device cuda, and Ray knows no GPU here: leave --device out, or start Ray with --num-gpus.")
    gpus = 1 if cards and s.device in ("auto", "cuda") else 0
    threads = _threads_here(s) if s.ray is None else s.threads or 1
    fit = cards if gpus else int(there.get("CPU", 0)) // threads
    if not fit:
        raise UserError(
            f"A worker takes {threads} CPUs (--threads) and Ray has {there.get('CPU', 0):g} here: give fewer --threads."
        )
    return gpus, threads, s.workers or fit


def _threads_here(s: Shares) -> int:
    """Threads of each worker on this machine: as asked for, or the cores shared out."""
    return s.threads or max(1, len(os.sched_getaffinity(0)) // (s.workers or 1))


def _go_to(folder: str) -> None:
    """Paths are those of whoever started the run, so a worker stands in the same folder."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"A worker on {os.uname().nodename} cannot enter {folder} ({error.strerror}): start the command in a "
            "folder that all machines share."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
