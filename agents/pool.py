"""Workers as Ray actors: the only place that talks to Ray, which is imported when it is needed.

A pool asks Ray for all its workers at once, so that it has them all or says at once what is missing. An actor that is
lost is restarted by Ray, here or on another node, while the others go on; what it held is done again
(``agents.dispatch``). Ray's own retries are off: they would call a restarted actor before it has its weights.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .dispatch import Backend, Dispatcher, Gone, Lost, Setup, Task

_LOOPBACK, _HERE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "127.0.0.1"
"""At 0 Ray takes 127.0.0.1 for this machine's address, and its processes then listen nowhere else. The name is that of
the systems on which Ray does so by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What each worker takes up."""

    num_cpus: float = 1
    """Processors; as many as the worker has threads."""
    num_gpus: float = 0
    """GPUs; with 0 a worker sees none, a fraction shares one."""
    custom: Mapping[str, float] | None = None
    """Resources of the cluster's own, such as ``{"judge": 1}`` for nodes started with them."""

    @property
    def bundle(self) -> dict[str, float]:
        """As Ray names it."""
        wanted = {"CPU": float(self.num_cpus), "GPU": float(self.num_gpus), **(self.custom or {})}
        return {name: amount for name, amount in wanted.items() if amount}


def start_ray(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    object_store_memory: int | None = None,
) -> bool:
    """Connect to Ray, unless this process already is.

    Args:
        address: Of a running cluster, ``"auto"`` for that of this machine; ``None``: start Ray here, for this process
            alone, listening on 127.0.0.1 only, without a dashboard and without reporting usage.
        num_cpus: Processors that Ray may use, where it is started here; ``None``: all.
        num_gpus: GPUs that Ray may use, where it is started here; ``None``: all.
        object_store_memory: Bytes of shared memory, where Ray is started here; ``None``: Ray's choice.

    Returns:
        Whether Ray was started or connected to by this call, and is to be shut down with ``stop_ray``.

    Raises:
        ValueError: There is no cluster at the address, or it does not let us in.
    """
    import ray

    if ray.is_initialized():
        return False
    if address is not None:
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            raise ValueError(
                f"Expected a Ray cluster at {address!r}, got: {error} Start one with `ray start --head`, and give this "
                "machine the cluster's token (~/.ray/auth_token, or RAY_AUTH_TOKEN) and RAY_AUTH_MODE=token."
            ) from error
        return True
    with _on_loopback():
        ray.init(
            address="local",
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            object_store_memory=object_store_memory,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    return True


def stop_ray() -> None:
    """Disconnect; a Ray that was started here ends."""
    import ray

    ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray started inside keeps to this machine."""
    from ray._private import ray_constants  # read from the environment when Ray is imported, which may be long ago

    wanted = {_LOOPBACK: "0", "RAY_USAGE_STATS_ENABLED": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    was_enabled = ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(wanted)
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = was_enabled
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Pool(Dispatcher):
    """Workers of one kind; ``Dispatcher`` says what they can be asked for."""

    def __init__(
        self,
        make_worker: Callable[[], Any],
        num_workers: int,
        *,
        resources: Resources | None = None,
        timeout: float = 60.0,
        max_retries: int = 3,
        patience: float = 300.0,
    ) -> None:
        """Reserve what the workers take up, and start them.

        Args:
            make_worker: Makes a worker in its own process, and again where it is restarted; pickled. What it raises is
                raised by the first ``wait``.
            num_workers: How many.
            resources: Of each.
            timeout: Seconds to wait for resources that others hold, or that an autoscaler brings.
            max_retries: See ``Dispatcher``.
            patience: See ``Dispatcher``.

        Raises:
            ValueError: Ray has not got what was asked for.
        """
        if num_workers < 1:
            raise ValueError(f"Expected at least 1 worker, got {num_workers}.")
        backend = RayBackend(make_worker, num_workers, resources or Resources(), timeout)
        super().__init__(backend, max_retries=max_retries, patience=patience)


class _Host:
    """The actor around a worker, which it makes when first asked: what that raises is then the worker's own error."""

    def __init__(self, make_worker: Callable[[], Any]) -> None:
        self._make_worker, self._worker, self._key = make_worker, None, None

    def ready(self) -> int:
        """Its process, once it has a worker."""
        if self._worker is None:
            self._worker = self._make_worker()
        return os.getpid()

    def call(self, method: str, args: tuple[Any, ...], setup: tuple[Any, str, list[Any]] | None) -> bytes:
        """The pickled result: unpickled it is the caller's own, and no view of read-only shared memory."""
        import ray

        self.ready()
        if setup is not None and setup[0] != self._key:
            key, told, (shared,) = setup
            self._key = None
            getattr(self._worker, told)(ray.get(shared))
            self._key = key
        return ray.cloudpickle.dumps(getattr(self._worker, method)(*args))


class RayBackend(Backend):
    """A ``Backend`` of actors in a placement group."""

    def __init__(self, make_worker: Callable[[], Any], num_workers: int, resources: Resources, timeout: float) -> None:
        """Reserve the resources; see ``Pool``."""
        self._make_worker, self._num_workers, self._resources = make_worker, num_workers, resources
        self._group = _reserve(num_workers, resources, timeout)
        self.actors: list[Any] = []

    def start(self) -> list[Any]:
        """The actors' handles."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        kind = ray.remote(max_restarts=-1, max_task_retries=0)(_Host)
        for index in range(self._num_workers):
            place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index)
            wanted = {
                "num_cpus": self._resources.num_cpus,
                "num_gpus": self._resources.num_gpus,
                "resources": self._resources.custom,
            }
            self.actors.append(kind.options(scheduling_strategy=place, **wanted).remote(self._make_worker))
        return list(self.actors)

    def share(self, value: Any) -> Any:
        """Put into the object store once; every node fetches it once."""
        import ray

        return ray.put(value)

    def probe(self, worker: Any) -> Any:
        """A call of ``ready``."""
        return worker.ready.remote()

    def call(self, worker: Any, task: Task) -> Any:
        """A call of the worker's method."""
        # In a list the reference itself travels: a worker fetches only what it has not been told yet.
        setup = None if task.setup is None else (task.setup.key, task.setup.method, [task.setup.shared])
        return worker.call.remote(task.method, task.args, setup)

    def wait(self, refs: Sequence[Any], timeout: float) -> list[Any]:
        """Those that are done."""
        import ray

        return ray.wait(list(refs), num_returns=1, timeout=timeout)[0]

    def result(self, ref: Any) -> Any:
        """The answer; the worker's own errors carry the traceback of its process as their cause."""
        import ray

        try:
            answer = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ray.exceptions.RayError):  # the actor lost something that others own
                raise Lost(str(error.cause)) from error
            raise error.cause from error
        except ray.exceptions.LocalRayletDiedError:
            raise  # Ray itself is gone on this machine
        except ray.exceptions.ActorDiedError as error:
            raise Gone(str(error)) from error
        except ray.exceptions.RayError as error:
            raise Lost(str(error)) from error
        return ray.cloudpickle.loads(answer) if isinstance(answer, bytes) else answer

    def close(self) -> None:
        """End the actors and give their resources back."""
        import ray

        if not ray.is_initialized():
            return
        for actor in self.actors:
            ray.kill(actor)
        ray.util.remove_placement_group(self._group)
        self.actors = []


def _reserve(num_workers: int, resources: Resources, timeout: float) -> Any:
    """A placement group with one bundle per worker, spread over the nodes."""
    import ray

    total, group = ray.cluster_resources(), None
    is_short = any(num_workers * amount > total.get(name, 0) for name, amount in resources.bundle.items())
    if not (is_short and ray.util.get_node_ip_address() == _HERE):  # a Ray of our own does not grow: no need to wait
        group = ray.util.placement_group([resources.bundle] * num_workers, strategy="SPREAD")
        if group.wait(timeout):
            return group
        ray.util.remove_placement_group(group)
    total, free = ray.cluster_resources(), ray.available_resources()
    wanted = ", ".join(f"{num_workers * amount:g} {name}" for name, amount in resources.bundle.items())
    there = ", ".join(f"{free.get(n, 0):g} of {total.get(n, 0):g} {n} free" for n in resources.bundle)
    each = " and ".join(f"{amount:g} {name}" for name, amount in resources.bundle.items())
    raise ValueError(
        f"Expected {wanted} for {num_workers} workers ({each} each, on one node), got a Ray cluster with {there}; ask "
        "for fewer workers, or give Ray more."
    )


__all__ = ["Pool", "RayBackend", "Resources", "Setup", "Task", "start_ray", "stop_ray"]
