"""What this machine has, found without torch: a CUDA device, memory, room on the disk."""

import os
import shutil
import subprocess
from pathlib import Path

CONTROL_DEVICE = Path("/dev/nvidiactl")
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
PROCESS_BYTES = 700_000_000
"""What the interpreter and the libraries of training take before any weight, measured with torch 2.13 for the CPU."""


def has_cuda() -> bool:
    """Whether training would find a CUDA device: none is hidden, and the driver's control device or tool says so."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return False
    return CONTROL_DEVICE.exists() or bool(gpu_bytes())


def gpu_bytes() -> list[int]:
    """The memory of each GPU that `nvidia-smi` lists; none without it."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [int(line) * 2**20 for line in done.stdout.split() if line.isdigit()] if done.returncode == 0 else []


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def memory_bytes() -> int:
    """This machine's memory, or this container's share of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [path.read_text(encoding="utf-8").strip() for path in CGROUP_LIMITS if path.is_file()]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])


def training_bytes(*, is_cuda: bool) -> int:
    """What a training may take here: of the smallest GPU, or of the memory without the libraries' part."""
    return min(gpu_bytes(), default=0) if is_cuda else memory_bytes() - PROCESS_BYTES
