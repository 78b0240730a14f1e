"""Where the real data sets lie that tests marked `realdata` read: `TUNEGATE_REALDATA`, or `../shared/data`."""

import os
from pathlib import Path

REALDATA = Path(os.environ.get("TUNEGATE_REALDATA", Path(__file__).parents[2] / "shared/data")).resolve()
