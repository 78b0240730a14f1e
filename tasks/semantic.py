"""Duplicates by meaning: static embeddings (model2vec, the extra `semantic`) compared block by block.

Every row is compared with every other: 50,000 rows take seconds, a million takes an hour.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import FileInvalid, Unavailable
from tasks.params_data import SemanticParams

BLOCK_ROWS = 2048


def semantic_pairs(texts: Sequence[str], params: SemanticParams) -> Iterator[tuple[int, int, float]]:
    """Pairs of texts (left < right) whose embeddings have at least the cosine `min_cosine`.

    Raises:
        FileInvalid: the package is missing, or the folder holds no model.
        Unavailable: the Hub did not give the model.
    """
    vectors = _unit_vectors(texts, params) if texts else np.zeros((0, 0), np.float32)
    for top in range(0, len(vectors), BLOCK_ROWS):
        for side in range(top, len(vectors), BLOCK_ROWS):
            cosines = vectors[top : top + BLOCK_ROWS] @ vectors[side : side + BLOCK_ROWS].T
            for left, right in np.argwhere(cosines >= params.min_cosine).tolist():
                if top + left < side + right:
                    yield top + left, side + right, float(cosines[left, right])


def _unit_vectors(texts: Sequence[str], params: SemanticParams) -> Any:
    """One row for every text; a text of which the model knows no word is a row of zeros, like nothing."""
    vectors = np.asarray(_model(params).encode(list(texts), use_multiprocessing=False), np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _model(params: SemanticParams) -> Any:
    try:
        from model2vec import StaticModel  # noqa: PLC0415  an extra, and only for who asks for it
    except ImportError:
        raise FileInvalid(
            "dedup.semantic needs the package model2vec, which is not installed; "
            "run `pip install 'tunegate[semantic]'` or set dedup.semantic to null"
        ) from None
    folder = Path(params.model)
    if params.revision is not None:
        folder = _from_hub(params.model, params.revision)
    if not (folder / "model.safetensors").is_file():
        raise FileInvalid(
            f"dedup.semantic.model: no model.safetensors in {folder}; name a folder with a model2vec model, "
            "or a Hub name with the commit in dedup.semantic.revision"
        )
    return StaticModel.from_pretrained(folder)


def _from_hub(repo_id: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  only for a model of the Hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(repo_id, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unavailable(f"dedup.semantic.model: {repo_id}@{revision[:12]}: {reason}; is the Hub reachable?") from None
