"""What is true: the stages of the line and the ground they share.

Nothing here imports prefect, dvc or flows. Importing the package switches every library's telemetry off, before any of
them is imported, and ties the life of a flow's stage, and of a training's processes, to its parent's: when `dvc` is
killed, the kernel sends the stage SIGTERM, so that no orphan goes on writing.
"""

import ctypes
import os
import signal
import sys

from tasks.quiet import quiet

CHILD_FLAG = "TUNEGATE_STAGE_CHILD"
"""Set to 1 for a process that is to die with its parent."""
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to send this process SIGTERM when its parent dies (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


quiet()
if os.environ.get(CHILD_FLAG) == "1":
    die_with_parent()
