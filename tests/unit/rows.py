"""Examples and parameters that the tests of the data stages share."""

from tasks.params_data import CleanParams, DedupParams, SplitParams
from tasks.records import Example, Message

CLEAN = CleanParams.model_validate(
    {
        "repair_unicode": True,
        "normalization": "NFC",
        "remove_control_characters": True,
        "min_prompt_chars": 5,
        "max_prompt_chars": 200,
        "min_completion_chars": 1,
        "max_completion_chars": 50,
        "max_tokens": None,
        "truncation_marks": ["[...]", "…"],
        "refusal_phrases": [],
        "boilerplate_phrases": [],
        "repetition": None,
        "language": None,
        "special_tokens": {"action": "drop", "extra": ["<|im_start|>", "<|im_end|>"]},
        "pii": {"kinds": ["email", "card", "phone", "iban", "ip"], "in_prompt": "mask", "in_completion": "drop"},
        "secrets": "drop",
    }
)
DEDUP = DedupParams(
    ngram_words=3,
    num_hashes=128,
    bands=16,
    min_jaccard=0.7,
    shared_ngram_words=8,
    max_shared_share=0.05,
    conflicting_answers="drop",
    max_cluster_share=0.01,
    max_removed_share=0.3,
    semantic=None,
    seed=1,
)
SPLIT = SplitParams(
    validation_share=0.1,
    test_share=0.1,
    replay_share=0.2,
    decontaminate_ngram_words=8,
    decontaminate_min_jaccard=0.7,
    seed=1,
)


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
