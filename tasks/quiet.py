"""Telemetry, update checks and progress bars of every library off, and threads that wait politely.

Light, so that the command can import it.
"""

import logging
import os
import warnings

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "WANDB_DISABLED": "true",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

POLITE = {"GOMP_SPINCOUNT": "1000"}
"""How long a thread of torch turns round waiting for the others before it sleeps, in rounds of GNU's OpenMP.

By its default they turn for as long as they have the processor; beside one other busy process two threads then work at
a fifth of the speed (measured on two cores: 140 to 200 products a second, 330 with this, 630 and 620 when idle).
"""


def quiet() -> None:
    """Switch every library's telemetry and progress bars off, unless the user has set the variable.

    Future warnings are messages of libraries to each other; the versions are pinned, so nobody can act on them here.
    On a CPU with AVX512-BF16 bitsandbytes asks for a kernel that `tasks.models` forbids it to use.
    """
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    for name, value in (QUIET | POLITE).items():
        os.environ.setdefault(name, value)
