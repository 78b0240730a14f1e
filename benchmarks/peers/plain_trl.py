"""The plain TRL script that many tutorials show: QLoRA with SFTTrainer, TRL's defaults where it names none.

Its own lines are kept (rank 16, alpha 32, dropout 0.05, the four attention layers, NF4, batches of 4 with 4 steps of
accumulation, learning rate 2e-4, bf16), but for what a machine without CUDA cannot do: its paged optimizer is AdamW
here, and `tokenizer=` is `processing_class=` today. Writes seconds of training, peak memory and steps.
"""

import json
import re
import sys
import time
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

base, rows, out, dtype, steps = sys.argv[1:]


def gib():
    """The peak memory of this program."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**20


started_gib = gib()
compute = getattr(torch, dtype)

bnb_config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
model = AutoModelForCausalLM.from_pretrained(
    base, quantization_config=bnb_config, device_map={"": "cpu"}, dtype=compute
)
tokenizer = AutoTokenizer.from_pretrained(base)
lora_config = LoraConfig(
    r=16,
    lora_alpha=32,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    lora_dropout=0.05,
    bias="none",
    task_type="CAUSAL_LM",
)
dataset = load_dataset("json", data_files=rows, split="train", cache_dir=str(Path(out) / "cache"))
config = SFTConfig(
    output_dir=out,
    max_steps=int(steps),
    per_device_train_batch_size=4,
    gradient_accumulation_steps=4,
    learning_rate=2e-4,
    bf16=compute is torch.bfloat16,
    logging_steps=10,
    save_strategy="no",
    use_cpu=True,
    report_to=[],
    disable_tqdm=True,
)
trainer = SFTTrainer(
    model=model, train_dataset=dataset, peft_config=lora_config, args=config, processing_class=tokenizer
)
started = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - started
peak_gib = gib()
trainer.save_model(str(Path(out) / "adapter"))
Path(out, "measured.json").write_text(
    json.dumps(
        {"seconds": seconds, "peak_gib": peak_gib, "imports_gib": started_gib, "steps": trainer.state.global_step}
    )
)
