"""Shards of a merged model, written tensor by tensor: in memory is a slice of rows, or a tensor if its rule needs it.

safetensors' own writer wants every tensor of a file at once. The format (README of huggingface/safetensors) is a length
in 8 bytes, a JSON header of that length with type, shape and place of every tensor, and the tensors. A shard that was
written has a receipt with its digest, so that a merge that was killed goes on with the next one.
"""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors import safe_open

from tasks.digests import digest_file
from tasks.errors import FileInvalid, MergeRefused
from tasks.files import need_disk, read_json, whole, write_json, write_text
from tasks.merge_plan import INDEX, Entry, Plan
from tasks.models import device, dtype_name
from tasks.params_train import QuantizationParams
from tasks.records import Record

SLICE_BYTES = 1 << 20
"""Of a slice in float32: it stays in a core's cache from the first step to the last, which halves the time."""
COPIES = 3
"""Tensors in float32 that are there at once where a rule needs a whole one: what was read, the delta, the result."""
PENDING = 2
BLOCK = 64
"""Weights in a block of 4-bit layers: what bitsandbytes 0.50 takes where nobody asks (`nn.modules.Params4bit`)."""
SECONDS_BETWEEN_LINES = 5.0
HEADROOM = 32 << 20
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


class Receipt(Record):
    """The digest of a shard, written when all of it was on the disk."""

    digest: str


@dataclass
class Rate:
    """How far a merge is: a line at every shard, and in between when one takes long."""

    label: str
    total: int
    done: int = 0
    skipped: int = 0
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def add(self, count: int, *, is_skipped: bool = False) -> None:
        """Note bytes that are there now; `is_skipped` were there before."""
        self.done += count
        self.skipped += count if is_skipped else 0
        if time.monotonic() - self.told >= SECONDS_BETWEEN_LINES:
            self.tell()

    def tell(self) -> None:
        """Say how much, how fast, and how long it will take."""
        self.told = time.monotonic()
        rate = max(self.done - self.skipped, 1) / max(self.told - self.started, 1e-6)
        left = timedelta(seconds=round((self.total - self.done) / rate))
        far = f"{self.done / 1e9:.2f} of {self.total / 1e9:.2f} GB"
        print(f"merge: {self.label}: {far}  {rate / 1e6:.0f} MB/s  {left} left", flush=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: for a slice more of them cost more than they bring, and another one hashes and writes.

    The products are then the same with any number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Writer:
    """Writes the shards of a plan.

    Args:
        dtype: of the merged model's weights; what is no floating-point number keeps its type.
        quantization: of the 4-bit weights that a plan asks for.
        max_memory: bytes that a tensor may take while it is merged; None for as many as it takes.
    """

    dtype: torch.dtype
    quantization: QuantizationParams | None = None
    max_memory: int | None = None

    def write(self, plan: Plan, folder: Path, receipts: Path, label: str) -> None:
        """Write the shards of `plan` and their index into `folder`; those that are there already, whole, stay.

        Args:
            plan: of `plan_merge`.
            folder: what it is written into.
            receipts: a folder besides it for the digests.
            label: what is written, for the lines that say how far it is.

        Raises:
            DiskFull: there is no room for what is missing.
            MergeRefused: a merged weight is not finite, or a tensor needs more than `max_memory`.
        """
        self.require_memory(plan)
        sizes = {name: sum(self.bytes_of(entry) for entry in entries) for name, entries in plan.shards.items()}
        there = {name for name in plan.shards if _is_there(folder / name, receipts / f"{name}.json")}
        need_disk(folder, sum(size for name, size in sizes.items() if name not in there) + HEADROOM)
        rate = Rate(label, sum(sizes.values()))
        for name, entries in sorted(plan.shards.items()):
            if name in there:
                rate.add(sizes[name], is_skipped=True)
                print(f"merge: {label}: {name} was written before, its digest is right", flush=True)
                continue
            digest = self.write_shard(folder / name, entries, rate)
            write_json(receipts / f"{name}.json", Receipt(digest=digest))
            rate.tell()
        if len(plan.shards) > 1:
            placed = {entry.name: name for name, entries in plan.shards.items() for entry in entries}
            index = {"metadata": {"total_size": rate.total}, "weight_map": placed}
            write_text(folder / INDEX, json.dumps(index, sort_keys=True, indent=2) + "\n")

    def write_shard(self, path: Path, entries: Iterable[Entry], rate: Rate) -> str:
        """Write one shard, whole or not at all; its digest. Hashing and writing go on beside the next products."""
        ordered = sorted(entries, key=lambda entry: (-self.type_of(entry).itemsize, entry.name))
        digest = hashlib.sha256()
        with whole(path) as partial, partial.open("wb", buffering=0) as file, ThreadPoolExecutor(1) as beside:
            waiting: deque[Future[None]] = deque()

            def put(block: Any) -> None:
                digest.update(block)
                view = memoryview(block)
                while view:
                    view = view[file.write(view) :]

            waiting.append(beside.submit(put, self.header(ordered)))
            for entry in ordered:
                for rows in self.rows_of(entry):
                    waiting.append(beside.submit(put, rows.view(torch.uint8).numpy().data if rows.numel() else b""))
                    if len(waiting) > PENDING:
                        waiting.popleft().result()
                    rate.add(rows.nbytes)
            while waiting:
                waiting.popleft().result()
            os.fsync(file.fileno())
        return digest.hexdigest()

    def header(self, entries: Iterable[Entry]) -> bytes:
        """The beginning of a safetensors file, padded to 8 bytes as the library does: every tensor is aligned."""
        tensors: dict[str, object] = {"__metadata__": {"format": "pt"}}
        start = 0
        for entry in entries:
            stop = start + self.bytes_of(entry)
            tensors[entry.name] = {
                "dtype": NAMES[self.type_of(entry)], "shape": list(entry.shape), "data_offsets": [start, stop],
            }  # fmt: skip
            start = stop
        text = json.dumps(tensors, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def rows_of(self, entry: Entry) -> Iterator[torch.Tensor]:
        """The merged tensor, a slice of rows at a time, flat, in the type that is written.

        Raises:
            MergeRefused: a number is not finite.
        """
        dtype = self.type_of(entry)
        change = None if entry.read_change is None else entry.read_change()
        weight = self._source(entry)
        step = len(weight) if change is not None and not change.is_rowwise else self._rows_in_a_slice(entry)
        for start in range(0, len(weight), step):
            with one_thread():
                rows = weight[start : start + step]
                if change is not None:
                    rows = change.apply(rows.to(torch.float32, copy=True).reshape(len(rows), *entry.shape[1:]), start)
                made = rows.to(dtype).contiguous()
                if change is not None or entry.is_quantized:
                    _require_finite(made, entry.name, dtype)
            yield made.flatten()

    def _source(self, entry: Entry) -> torch.Tensor:
        """The base's tensor, of at least one dimension: mapped from its file, or the 4-bit one as it was trained on.

        The file is opened for each tensor, so that pages of it do not add up in memory.
        """
        with safe_open(entry.file, framework="pt") as file:
            weight: torch.Tensor = file.get_tensor(entry.source)
        if entry.is_quantized and self.quantization is not None:
            weight = dequantized(weight, self.quantization)
        return weight.reshape(-1) if weight.dim() == 0 else weight

    def _rows_in_a_slice(self, entry: Entry) -> int:
        columns = max(_count(entry.shape[1:]), 1)
        limit = SLICE_BYTES if self.max_memory is None else min(SLICE_BYTES, self.max_memory // (COPIES + PENDING))
        return max(limit // (4 * columns), 1)

    def type_of(self, entry: Entry) -> torch.dtype:
        """The type that a tensor is written in."""
        return self.dtype if entry.stored.is_floating_point else entry.stored

    def bytes_of(self, entry: Entry) -> int:
        """The bytes of a tensor as it is written."""
        return _count(entry.shape) * self.type_of(entry).itemsize

    def require_memory(self, plan: Plan) -> None:
        """Compare what the largest tensor takes with what is allowed, before anything is written.

        Raises:
            MergeRefused: a tensor that must be there as a whole does not fit.
        """
        if self.max_memory is None:
            return
        for entry in (entry for entries in plan.shards.values() for entry in entries):
            is_whole = entry.is_quantized or (entry.read_change is not None and not entry.read_change().is_rowwise)
            needed = COPIES * 4 * _count(entry.shape)
            if is_whole and needed > self.max_memory:
                raise MergeRefused(
                    f"merge.max_memory_gib allows {self.max_memory / 2**30:.2f} GiB, {entry.name} must be there as a "
                    f"whole and takes {needed / 2**30:.2f}; write at least {needed / 2**30 + 0.005:.2f}"
                )


def dequantized(weight: torch.Tensor, quantization: QuantizationParams) -> torch.Tensor:
    """The weight that training saw of a base in 4 bits, in float32 on the CPU.

    As `models.load_base` quantises it: by bitsandbytes, in the blocks of its layers, on the training's device.
    """
    packed, state = quantize_4bit(
        weight.to(device(), torch.float32),
        blocksize=BLOCK,
        compress_statistics=quantization.bnb_4bit_use_double_quant,
        quant_type=quantization.bnb_4bit_quant_type,
    )
    found: torch.Tensor = dequantize_4bit(packed, state)
    return found.cpu()


def _is_there(shard: Path, receipt: Path) -> bool:
    """Whether a shard was written to its end and has these bytes still; if not, said why."""
    if not shard.is_file() or not receipt.is_file():
        return False
    try:
        expected = read_json(receipt, Receipt).digest
    except FileInvalid as error:
        print(f"merge: {shard.name} is written again: {error}", flush=True)
        return False
    if digest_file(shard) != expected:
        print(f"merge: {shard.name} has other bytes than were written; it is written again", flush=True)
        return False
    return True


def _require_finite(made: torch.Tensor, name: str, dtype: torch.dtype) -> None:
    ends = (
        torch.stack(torch.aminmax(made)) if made.numel() else made
    )  # a NaN is both of them; each number alone is slow
    if not torch.isfinite(ends).all():
        raise MergeRefused(
            f"{name} has numbers that are not finite in the merged model, in {dtype_name(dtype)}; write "
            "merge.dtype bfloat16 or float32, or look at the losses of the training"
        )


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
