"""A run that is stopped from outside: ^C and SIGTERM end it, also where the exception that they raise gets lost.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a finaliser or a callback from C it is
printed and forgotten, and a run that waits hours for a stage would go on. So ^C is noted too, and whoever waits looks.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

POLL_SECONDS = 0.5
_interrupted = threading.Event()


@contextmanager
def stoppable() -> Iterator[None]:
    """Note ^C before it is raised, and turn SIGTERM into an ordinary exit, with 143; where ^C is ignored it stays so.

    Prefect cancels the flow on SIGTERM and then sends it again to the handler that it found; the default one would end
    this process without its exit handlers, and Prefect's temporary server would stay.
    """
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _leave)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _interrupt)
    _interrupted.clear()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt of a ^C once more, if it got lost.

    Raises:
        KeyboardInterrupt: ^C was pressed since `stoppable` began.
    """
    if _interrupted.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def _leave(_number: int, _frame: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _interrupt(_number: int, _frame: object) -> None:
    _interrupted.set()
    raise KeyboardInterrupt
