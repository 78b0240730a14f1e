"""Batches of rows over all cores, or over a Ray cluster: the same function, the same order, the same results.

Natively a `ProcessPoolExecutor`, which notices a worker that died (`multiprocessing.Pool` would wait for it for ever);
on a cluster Ray's own pool. What a worker needs to start with (a tokenizer, a recogniser) is built once in each by
`start`.
"""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from tasks.errors import WorkersLost
from tasks.params_data import EngineParams

Item = TypeVar("Item")
Result = TypeVar("Result")
Begin = Callable[[], None]
PROGRESS_SECONDS = 2.0
AHEAD = 2
"""Items handed out for each worker of this machine: results that wait for their turn are held in memory."""
PORTION = 16
"""The same on a cluster, whose pool is handed portions: all of one are done before the next."""


def map_batches(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    engine: EngineParams,
    start: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
    imported: Sequence[str] = (),
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order.

    Args:
        function: of a module that a worker can import; on a cluster its files must lie at the same absolute path.
        items: small values, such as the number of a row group, since they are sent to the workers.
        engine: where the workers run; one item, or one worker, stays in this process.
        start: called once in every worker before its first item.
        arguments: of `start`.
        imported: modules that take long to import: natively once for all workers, which are forked then.

    Raises:
        WorkersLost: a worker was killed, or the cluster cannot be reached.
        Exception: the first one that `start` or `function` raised.
    """
    if not items:
        return
    count = min(engine.workers or len(os.sched_getaffinity(0)), len(items))
    if engine.runner == "native" and count == 1:
        if start is not None:
            start(*arguments)
        yield from map(function, items)
        return
    begin, done = partial(_begun, start, arguments), partial(_done, function)
    if engine.runner == "native":
        yield from _over_processes(done, items, count, begin, imported)
    else:
        yield from _over_cluster(done, items, count, begin, engine)


def _over_processes(
    function: Callable[[Item], Result], items: Sequence[Item], count: int, begin: Begin, imported: Sequence[str]
) -> Iterator[Result]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imported))
    with ProcessPoolExecutor(count, context, begin) as pool:
        try:
            waiting = (pool.submit(function, item) for item in items)
            ahead = deque(islice(waiting, AHEAD * count))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(islice(waiting, 1))
        except BrokenProcessPool:
            raise WorkersLost(
                f"one of {count} workers was killed, most often for want of memory; "
                "set engine.workers in params.yaml to fewer, and run again"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _over_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], count: int, begin: Begin, engine: EngineParams
) -> Iterator[Result]:
    with _ray_pool(engine, count, begin) as pool:
        for start in range(0, len(items), PORTION * count):
            for result in pool.imap(function, items[start : start + PORTION * count]):
                if isinstance(result, Exception):  # the pool hands on what was raised in a worker, wrapped
                    raise getattr(result, "underlying", result)
                yield result


def _ray_pool(engine: EngineParams, count: int, begin: Begin) -> Any:
    try:
        import ray  # noqa: PLC0415  an extra, and only for who asks for it
        from ray.util.multiprocessing import Pool  # noqa: PLC0415
    except ModuleNotFoundError:
        raise WorkersLost("engine.runner is ray, which is not installed: pip install 'tunegate[ray]'") from None
    try:
        ray.init(address=engine.ray_address, ignore_reinit_error=True, log_to_driver=False)
        cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        return Pool(min(count, cores) if engine.workers else cores, begin)
    except Exception as error:  # noqa: BLE001  what it raises depends on how far it came
        where = engine.ray_address or "this machine"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise WorkersLost(
            f"no Ray cluster answers at {where} ({first}); check engine.ray_address, or set engine.runner to native"
        ) from None


_failed: list[Exception] = []


def _begun(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Start a worker; what breaks here is told by its first item, for a pool only sees that the worker is gone."""
    try:
        if start is not None:
            start(*arguments)
    except Exception as error:  # noqa: BLE001  raised again in `_done`
        _failed.append(error)


def _done(function: Callable[[Item], Result], item: Item) -> Result:
    if _failed:
        raise _failed[0]
    return function(item)


def with_progress(results: Iterable[Result], stage: str, total: int, rows: Callable[[Result], int]) -> Iterator[Result]:
    """Pass results on; every two seconds say how many of `total` rows are done, how fast, and the time left."""
    started = last = time.monotonic()
    done = 0
    for result in results:
        yield result
        done += rows(result)
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS and done:
            rate = done / (now - started)
            left = (total - done) / rate
            print(f"{stage}: {done:,}/{total:,} rows  {rate:,.0f} rows/s  {left:.0f} s left", flush=True)
            last = now
