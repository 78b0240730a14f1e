"""Batches of rows over all cores, or over a Ray cluster: the same function, the same order, the same results.

Both pools have the interface of `multiprocessing.Pool`; Ray's is its own drop-in replacement. What a worker needs to
start with (a tokenizer, a recogniser) is built once in each by `start`.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from tasks.params import EngineParams

Item = TypeVar("Item")
Result = TypeVar("Result")
PROGRESS_SECONDS = 2.0


def map_batches(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    engine: EngineParams,
    start: Callable[..., None],
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order.

    Args:
        function: of a module that a worker can import; on a cluster its files must lie at the same absolute path.
        items: small values, such as the number of a row group, since they are sent to the workers.
        engine: where the workers run; one item, or one worker, stays in this process.
        start: called once in every worker before its first item.
        arguments: of `start`.
    """
    count = min(engine.workers or len(os.sched_getaffinity(0)), len(items))
    if engine.runner == "native" and count <= 1:
        start(*arguments)
        yield from map(function, items)
        return
    with _pool(engine, count, start, arguments) as pool:
        for result in pool.imap(function, items):
            if isinstance(result, Exception):  # Ray's pool hands on what was raised in a worker, wrapped
                raise getattr(result, "underlying", result)
            yield result


def _pool(engine: EngineParams, count: int, start: Callable[..., None], arguments: tuple[Any, ...]) -> Any:
    if engine.runner == "native":
        return multiprocessing.get_context("forkserver").Pool(count, start, arguments)
    import ray  # noqa: PLC0415  an extra, and only for who asks for it
    from ray.util.multiprocessing import Pool  # noqa: PLC0415

    ray.init(address=engine.ray_address, ignore_reinit_error=True, log_to_driver=False)
    return Pool(count, start, arguments)


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
