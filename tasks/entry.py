"""How a stage starts and ends: quiet libraries, one clear message, the agreed exit code, the outcome for the flow."""

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tasks.errors import EXIT_INPUT, TunegateError
from tasks.files import write_text

OUTCOME_VARIABLE = "TUNEGATE_OUTCOME"
USERS_TO_MEND = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def run_stage(main: Callable[[], None]) -> None:
    """Run `main` and exit: 0 done, 1 a bug, 2 the user's input is wrong, 3 refused."""
    signal.signal(signal.SIGTERM, _stop)
    raise SystemExit(_attempt(main))


def _attempt(main: Callable[[], None]) -> int:
    try:
        main()
    except TunegateError as error:
        return _report(type(error).__name__, str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  the last line of defence: shown with its traceback, exit code 1
        if reason := _of_the_disk(error):
            return _report("DiskFull", f"{reason}; free some space or mend the permissions, then run again", EXIT_INPUT)
        traceback.print_exc()
        return _report(type(error).__name__, f"{type(error).__name__}: {error}", 1)
    return 0


def _of_the_disk(error: Exception) -> str | None:
    """What is wrong with the disk, in words, where that is what the error says."""
    if isinstance(error, OSError) and error.errno in USERS_TO_MEND:
        return f"{error.filename or 'the workspace'}: {error.strerror}"
    is_told = any(f"(os error {number})" in str(error) for number in USERS_TO_MEND)  # by libraries in Rust: safetensors
    return f"the workspace: {error}" if is_told else None


def _report(kind: str, message: str, exit_code: int) -> int:
    print(f"{'refused' if exit_code == 3 else 'error'}: {message}", file=sys.stderr, flush=True)
    if path := os.environ.get(OUTCOME_VARIABLE):
        outcome = {"kind": kind, "message": message, "exit_code": exit_code}
        write_text(Path(path), json.dumps(outcome) + "\n")
    return exit_code


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)
