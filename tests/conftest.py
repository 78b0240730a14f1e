"""What every test needs."""

import os
import sys
from pathlib import Path


def pytest_configure() -> None:
    """Let the `python` of a stage's command be this interpreter: not every machine has one on PATH."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
