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

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "WANDB_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def quiet() -> None:
    """Switch every library's telemetry and progress bars off, unless the user has set the variable."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def run_stage(main: Callable[[], None]) -> None:
    """Run `main` and exit: 0 done, 1 a bug, 2 the user's input is wrong, 3 refused."""
    quiet()
    signal.signal(signal.SIGTERM, _stop)
    raise SystemExit(_attempt(main))


def _attempt(main: Callable[[], None]) -> int:
    try:
        main()
    except TunegateError as error:
        return _report(type(error).__name__, str(error), error.exit_code)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}:
            raise
        message = f"{error.filename or 'the workspace'}: {error.strerror}; free some space or mend the permissions"
        return _report("DiskFull", message, EXIT_INPUT)
    except Exception as error:
        traceback.print_exc()
        return _report(type(error).__name__, str(error), 1)
    return 0


def _report(kind: str, message: str, exit_code: int) -> int:
    print(f"{'refused' if exit_code == 3 else 'error'}: {message}", file=sys.stderr, flush=True)
    if path := os.environ.get(OUTCOME_VARIABLE):
        outcome = {"kind": kind, "message": message, "exit_code": exit_code}
        write_text(Path(path), json.dumps(outcome) + "\n")
    return exit_code


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)
