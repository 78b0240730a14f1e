"""FSDP: a model whose weights are split over processes, and the trained ones of it, whole again for a moment.

FSDP flattens the weights of a unit into one tensor and leaves each process a part of it, under another name. What is
saved, kept or put back goes through `whole_weights`, so that it has the names and shapes that the model had before.
"""

from collections.abc import Iterator

import torch
from torch.distributed.fsdp import FullyShardedDataParallel

WRAPPER = "_fsdp_wrapped_module."
FLAT = "_flat_param"


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether FSDP has split the model."""
    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules())


def whole_weights(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The weights that are trained, by name; what is written into one lasts.

    Of a sharded model one unit at a time is whole, and only those that learn: of LoRA never the base. Every process
    has to come here, and to take every weight, since each gives its part.
    """
    units = [
        (prefix, module) for prefix, module in model.named_modules() if isinstance(module, FullyShardedDataParallel)
    ]
    if not units:
        yield from ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
        return
    for prefix, unit in units:
        is_first = unit is units[0][1]  # the outermost, which FSDP wants to be looked at before the others
        if is_first or any(weight.requires_grad for name, weight in unit.module.named_parameters() if name == FLAT):
            with FullyShardedDataParallel.summon_full_params(unit, recurse=False):
                for name, weight in unit.module.named_parameters(prefix=prefix):
                    if weight.requires_grad and not name.endswith(FLAT):
                        yield name.replace(WRAPPER, ""), weight
