"""Which layers get an adapter: presets and names, resolved against the layers that a model has."""

from collections.abc import Collection

from tasks.errors import TrainingInvalid

QUERY_VALUE = (("q_proj", "v_proj"), ("qkv_proj",), ("query_key_value",), ("c_attn",))
ATTENTION = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("qkv_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("query_key_value", "dense"),
    ("c_attn", "c_proj"),
)
"""Attention's layers by the families' own names, Llama's first."""
PRESETS = {"attention-qv": QUERY_VALUE, "attention": ATTENTION}


def resolve_target_modules(wanted: str | list[str], layers: Collection[str]) -> str | list[str]:
    """What PEFT takes for `target_modules`.

    Args:
        wanted: of the parameters: a preset, or names.
        layers: the last parts of the names of the model's linear layers.

    Raises:
        TrainingInvalid: the model has no such layer; PEFT would train the others without a word.
    """
    if wanted == "all-linear":
        return wanted
    if isinstance(wanted, list):
        missing = [name for name in wanted if not any(_is_end_of(name, layer) for layer in layers)]
        if missing:
            raise TrainingInvalid(f"target_modules: the base has no layer {', '.join(missing)}; {_has(layers)}")
        return wanted
    for names in PRESETS[wanted]:
        if set(names) <= set(layers):
            return list(names)
    raise TrainingInvalid(f"target_modules: the base has no layers of the preset {wanted}; {_has(layers)}")


def _is_end_of(name: str, layer: str) -> bool:
    return name.rsplit(".", 1)[-1] == layer


def _has(layers: Collection[str]) -> str:
    return f"its linear layers are {', '.join(sorted(set(layers)))}"
