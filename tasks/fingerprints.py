"""What moves a benchmark's scores besides the weights, as one record: the condition to compare, the cache's key."""

import json
import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tasks.benchmark_tasks import Tasks
from tasks.digests import combine_digests, digest_file, digest_text
from tasks.models import device, dtype_name, resolve_dtype
from tasks.params import Benchmark, EvaluateParams
from tasks.params_train import ComputeParams, QuantizationParams
from tasks.records import BaseRecord, Fingerprint

ENGINES = {"hf": ("transformers", "torch", "peft", "bitsandbytes"), "vllm": ("vllm", "transformers", "torch")}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def build_fingerprint(
    benchmark: Benchmark, tasks: Tasks, evaluate: EvaluateParams, compute: ComputeParams, base: BaseRecord, backend: str
) -> Fingerprint:
    """The fingerprint of one benchmark; to be taken before lm-eval has run its tasks, which writes into them."""
    return Fingerprint(
        benchmark=benchmark.name,
        harness_version=version("lm_eval"),
        definition_digest=combine_digests({name: definition_digest(task) for name, task in tasks.items()}),
        data_digest=combine_digests({name: data_digest(task, benchmark.num_fewshot) for name, task in tasks.items()}),
        num_fewshot=benchmark.num_fewshot,
        limit=evaluate.limit,
        chat_template_digest=base.chat_template_digest if evaluate.apply_chat_template else "",
        dtype=dtype_name(resolve_dtype(compute.dtype)),
        batch_size=evaluate.batch_size,
        max_length=evaluate.max_length,
        seed=evaluate.seed,
        engine=engine(backend),
    )


def engine(backend: str) -> str:
    """The libraries that compute, with their versions, and the kind of device; builds of torch are not told apart.

    Another version may tokenise, template, quantise or sum otherwise, and a pair of scores from two of them would show
    that difference as if it were the model's. What has moved is measured again, an upgrade costs time.
    """
    found = (f"{name} {version(name).split('+')[0]}" for name in ENGINES[backend])
    return ", ".join([*found, device().type])


def definition_digest(task: Any) -> str:
    """The digest of a task's YAML as lm-eval resolves it, and of the Python files beside it.

    Where the file lies is left out: another folder of the same files is the same benchmark. lm-eval's own files are
    named by its version.
    """
    config = dict(task.dump_config())
    metadata = dict(config.pop("metadata", None) or {})
    source = Path(str(metadata.pop("config_source", "")))
    written = json.dumps(config | {"metadata": metadata}, sort_keys=True, default=str)
    is_ours = source.is_file() and not source.resolve().is_relative_to(_harness_folder())
    code = {path.name: digest_file(path) for path in source.parent.glob("*.py")} if is_ours else {}
    return combine_digests({"config": digest_text(_ADDRESS.sub("", written)), **code})


def _harness_folder() -> Path:
    found = find_spec("lm_eval")
    return Path(str(found and found.origin)).resolve().parent


def data_digest(task: Any, num_fewshot: int) -> str:
    """The digest of the documents that are asked, in their order, and with examples of those that these come from."""
    parts = [task.eval_docs, *([task.fewshot_docs()] if num_fewshot else [])]
    lines = (json.dumps(doc, sort_keys=True, default=str) for part in parts for doc in (*part, {}))
    return digest_text(_ADDRESS.sub("", "\n".join(lines)))


def weights_digest(base: BaseRecord, adapter_digest: str | None, quantization: QuantizationParams | None) -> str:
    """The digest of all that makes a model's weights; a base in 4 bits is another model than the base itself."""
    parts = {"base": base.digest}
    parts |= {} if adapter_digest is None else {"adapter": adapter_digest}
    parts |= {} if quantization is None else {"quantization": digest_text(quantization.model_dump_json())}
    return combine_digests(parts)
