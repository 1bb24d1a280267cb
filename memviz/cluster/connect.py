"""Connects to a cluster, or starts one on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from loky import cpu_count

from memviz.errors import ClusterError
from memviz.work import employing

Device = Literal["auto", "cpu", "cuda"]
LOCAL = "local"
# Read by Ray when it is imported or started, and by the processes that it starts. The second would send the working
# directory to all workers where this process was started by `uv run`.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextmanager
def on_ray(address: str = LOCAL, *, device: str = "auto", threads: int | None = None) -> Iterator[None]:
    """Lets the workers of a Ray cluster do the work of what is called in the block: `memviz.build_index`,
    `memviz.drivers`, `Model.score`, and the pictures of a whole network.

    Results are bit for bit those of one machine, if workers compute with as many threads as it does, on the same kind
    of processor. Nodes that come later are put to use; what a worker had in hand that dies, others do again.

    Args:
        address: of the cluster's head, as "10.0.0.1:6379"; "auto" for the cluster of which this machine is a part, and
            "local" for one on this machine, which ends with the block. Where this process is connected to a cluster
            already, that is taken.
        device: "cpu" or "cuda" takes only that; "auto" takes GPUs on nodes that have some, and else cores.
        threads: with how many a worker computes on cores; by default as many as this process would.

    Raises:
        ClusterError: Ray is not installed, or there is no such cluster.

    Example:
        >>> import memviz
        >>> from memviz.cluster import on_ray
        >>> model = memviz.load_model("resmem")  # doctest: +SKIP
        >>> with on_ray("auto"):  # doctest: +SKIP
        ...     index = memviz.build_index(model, "photos/", out="runs/photos")
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ClusterError(f"device={device!r} is no kind of device for a cluster's workers: give auto, cpu or cuda.")
    if "://" in address:
        raise ClusterError(
            f"{address!r} is an address of Ray Client, which cannot be used. Run this on a machine of the cluster, "
            "with the head's address as HOST:6379, or 'auto'."
        )
    with _environment(_QUIET):
        try:
            import ray
        except ImportError:
            raise ClusterError(
                "Work on a cluster needs Ray. Install it here and on all nodes: pip install 'memviz[ray]'"
            ) from None
        started = not ray.is_initialized()
        if started:
            _connect(ray, address)
    from memviz.cluster.crew import RayCrew

    crew = RayCrew(device, threads or torch.get_num_threads())
    try:
        with employing(crew):
            yield
    finally:
        crew.close()
        if started:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"num_cpus": cpu_count(), "include_dashboard": False} if address == LOCAL else {}
    logging.getLogger("ray").setLevel(logging.ERROR)
    before = signal.getsignal(signal.SIGTERM)
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address, log_to_driver=False, configure_logging=False, **options)
    except Exception as error:  # Ray raises that itself where a node is too slow to start
        ray.shutdown()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        if address == LOCAL:
            raise ClusterError(
                f"Ray did not start on this machine ({reason}). Try again when it is less busy."
            ) from error
        raise ClusterError(
            f"There is no Ray cluster to connect to at {address!r} ({reason}). Start its head by `ray start --head`, "
            "and give the address that it prints (HOST:6379) on a machine that has joined it; or give 'local'. Where "
            "`ray start` says that it asks for a token, set RAY_AUTH_MODE=token."
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray puts a handler of its own in its place
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets variables for the block; what a user has set stays."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
