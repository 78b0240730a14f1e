"""Examples and parameters that the tests of the data stages share."""

from tasks.params import CleanParams, DedupParams, SplitParams
from tasks.records import Example, Message

CLEAN = CleanParams(
    repair_unicode=True,
    min_prompt_chars=5,
    max_prompt_chars=200,
    max_completion_chars=50,
    truncation_marks=["[...]", "…"],
    special_tokens=["<|im_start|>", "<|im_end|>"],
    mask_pii=["email", "card", "phone", "iban"],
    drop_secrets=True,
)
DEDUP = DedupParams(ngram_words=3, num_hashes=128, bands=16, min_jaccard=0.7, seed=1)
SPLIT = SplitParams(validation_share=0.1, test_share=0.1, replay_share=0.2, decontaminate_ngram_words=8, seed=1)


def example(
    name: str,
    prompt: str = "Where is my parcel?",
    completion: str = "shipping",
    *,
    role: str = "train",
    system: str = "",
) -> Example:
    turns = [("system", system)] if system else []
    return conversation(name, *turns, ("user", prompt), ("assistant", completion), role=role)


def conversation(name: str, *turns: tuple[str, str], role: str = "train") -> Example:
    messages = tuple(Message.model_validate({"role": who, "content": text}) for who, text in turns)
    return Example.model_validate(
        {"id": name, "source": "tickets", "role": role, "file": "tickets.jsonl", "line": 1, "messages": messages}
    )
