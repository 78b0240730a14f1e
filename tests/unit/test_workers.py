"""Batches over processes: in order, started once in each worker, the same wherever they run."""

import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from tasks.errors import FileInvalid, WorkersLost
from tasks.params_data import EngineParams
from tasks.workers import AHEAD, map_batches, with_progress

TWO = EngineParams(runner="native", ray_address=None, workers=2)
ONE = EngineParams(runner="native", ray_address=None, workers=1)
_STARTED: list[int] = []


def start(offset: int) -> None:
    _STARTED.append(offset)


def shifted(number: int) -> tuple[int, int]:
    return number + _STARTED[-1], os.getpid()


def broken(_number: int) -> int:
    raise ValueError("this batch is broken")


def test_results_come_in_the_order_of_the_items_from_other_processes() -> None:
    results = list(map_batches(shifted, list(range(20)), TWO, start, (100,)))
    assert [number for number, _ in results] == list(range(100, 120))
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize(("engine", "items"), [(ONE, [1, 2, 3]), (TWO, [1])])
def test_one_worker_or_one_item_stays_in_this_process(engine: EngineParams, items: list[int]) -> None:
    assert {process for _, process in map_batches(shifted, items, engine, start, (0,))} == {os.getpid()}


def test_no_items_start_no_worker() -> None:
    assert list(map_batches(shifted, [], TWO, start, (0,))) == []


class Counted(list[int]):
    """Counts what is taken of it."""

    taken = 0

    def __iter__(self) -> Iterator[int]:
        for item in super().__iter__():
            self.taken += 1
            yield item


def test_only_a_few_items_are_handed_out_before_their_results_are_taken() -> None:
    items = Counted(range(50))
    results = map_batches(shifted, items, TWO, start, (0,))
    next(results)
    assert items.taken <= AHEAD * 2 + 1
    assert [number for number, _ in results] == list(range(1, 50))


def test_what_breaks_in_a_worker_is_raised_here() -> None:
    with pytest.raises(ValueError, match="this batch is broken"):
        list(map_batches(broken, [1, 2, 3], TWO, start, (0,)))


def test_progress_says_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 1.0, 4.0])
    monkeypatch.setattr("tasks.workers.time.monotonic", lambda: next(clock))
    assert list(with_progress([100, 300], "clean", 1000, lambda rows: rows)) == [100, 300]
    assert capsys.readouterr().out == "clean: 400/1,000 rows  100 rows/s  6 s left\n"


class RayTaskBroken(Exception):
    """As Ray's pool wraps what was raised: `imap` hands it on as a result."""

    def __init__(self, underlying: Exception) -> None:
        self.underlying = underlying


class RayPool:
    def __enter__(self) -> "RayPool":
        return self

    def __exit__(self, *_: object) -> None: ...

    def imap(self, *_: object) -> list[object]:
        return [1, RayTaskBroken(ValueError("this batch is broken"))]


def no_tools(_offset: int) -> None:
    raise FileInvalid("no tokenizer can be read there")


def killed(_number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.parametrize("engine", [ONE, TWO])
def test_a_worker_that_cannot_start_says_why_and_nobody_waits_for_it(engine: EngineParams) -> None:
    with pytest.raises(FileInvalid, match="no tokenizer can be read there"):
        list(map_batches(shifted, [1, 2, 3], engine, no_tools, (0,)))


def test_a_worker_that_is_killed_ends_the_stage_with_the_next_move() -> None:
    with pytest.raises(WorkersLost, match=r"one of 2 workers was killed.*set engine\.workers"):
        list(map_batches(killed, [1, 2, 3], TWO))


def test_a_cluster_that_does_not_answer_is_named_with_the_next_move(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise ConnectionError("failed to connect\nand much more")

    ray = ModuleType("ray")
    monkeypatch.setattr(ray, "init", refused, raising=False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    pools = ModuleType("ray.util.multiprocessing")
    monkeypatch.setattr(pools, "Pool", RayPool, raising=False)
    monkeypatch.setitem(sys.modules, "ray.util", ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.multiprocessing", pools)
    on_ray = EngineParams(runner="ray", ray_address="ray://head:10001", workers=2)
    with pytest.raises(WorkersLost, match=r"at ray://head:10001 \(failed to connect\); check engine.ray_address"):
        list(map_batches(shifted, [1, 2], on_ray, start, (0,)))


def test_ray_that_is_not_installed_is_said_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkersLost, match=r"pip install 'tunegate\[ray\]'"):
        list(map_batches(shifted, [1, 2], EngineParams(runner="ray", ray_address=None, workers=2), start, (0,)))


def test_what_breaks_on_a_cluster_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.workers._ray_pool", lambda *_: RayPool())
    on_ray = EngineParams(runner="ray", ray_address=None, workers=2)
    with pytest.raises(ValueError, match="this batch is broken"):
        list(map_batches(broken, [1, 2], on_ray, start, (0,)))
