"""The word vectors that lie in the `wordllama` wheel, and the mean of them that stands for a text.

WordLlama (D. L. Miller, 2024) takes the token embeddings of Llama 2, trains them once more for
similarity and keeps 256 dimensions; a text's vector is the mean of its tokens' vectors. We read the
package's two files ourselves, with the same `tokenizers` and `safetensors` that it uses, for four
reasons:

- importing `wordllama` takes 0.7 s and sets up logging for the whole process; reading the files
  takes 0.1 s;
- its `embed` pads a batch to the longest text: one of 300,000 tokens among 63 short ones asks for
  20 GB;
- it starts a pool of threads in the tokenizer, which must not be there when a process forks;
- where a file is missing it calls a download server; we say what is missing.

That our vectors are WordLlama's own is a test. Import this module late: it brings numpy.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from torpor.base.errors import ModelRefused

Matrix = npt.NDArray[np.float32]

TOKENIZER_FILE = "tokenizers/l2_supercat_tokenizer_config.json"
WEIGHTS_FILE = "weights/l2_supercat_256.safetensors"
REPAIR = "reinstall it: pip install --force-reinstall wordllama"


class WordVectors:
    """A tokenizer and a table of vectors; immutable after loading, so any thread may use it."""

    def __init__(self, tokenizer: Tokenizer, table: Matrix) -> None:
        self._tokenizer = tokenizer
        self._table = table

    def tokens(self, text: str) -> list[int]:
        """Return the text's token numbers."""
        # One text at a time: `encode_batch` would start the tokenizer's threads.
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def unit_rows(self, texts: Sequence[str]) -> tuple[Matrix, int]:
        """Return one unit vector a text (zeros for an empty one) and the number of tokens read."""
        rows = np.zeros((len(texts), self._table.shape[1]), dtype=np.float32)
        count = 0
        for row, text in zip(rows, texts, strict=True):
            ids = self.tokens(text)
            count += len(ids)
            if ids:
                row[:] = self._table[ids].mean(axis=0)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        lengths[lengths == 0] = 1
        rows /= lengths
        return rows, count


def package_folder() -> Path | None:
    """Return the folder of the installed `wordllama`, without importing it; None if not there."""
    spec = importlib.util.find_spec("wordllama")
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def read(folder: Path | None, *, model: str) -> WordVectors:
    """Read the two files.

    Args:
        folder: The package's folder; None where it isn't installed.
        model: The name for errors.

    Raises:
        ModelRefused: A file is missing or damaged.

    """
    if folder is None:
        raise ModelRefused(model=model, reason=f"the package wordllama is missing; {REPAIR}")
    for file in (folder / TOKENIZER_FILE, folder / WEIGHTS_FILE):
        if not file.is_file():
            raise ModelRefused(model=model, reason=f"{file} is missing; {REPAIR}")
    try:
        # From a buffer: `Tokenizer.from_file` raises a bare Exception for a damaged file, this a
        # ValueError.
        tokenizer = Tokenizer.from_buffer((folder / TOKENIZER_FILE).read_bytes())
        with safe_open(folder / WEIGHTS_FILE, framework="np", device="cpu") as file:
            table = file.get_tensor("embedding.weight").astype(np.float32)
    except (ValueError, OSError, SafetensorError) as error:
        reason = f"its files in {folder} can't be read ({error}); {REPAIR}"
        raise ModelRefused(model=model, reason=reason) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return WordVectors(tokenizer, table)


_loaded: dict[Path | None, WordVectors] = {}
_loading = threading.Lock()


def load(folder: Path | None, *, model: str) -> WordVectors:
    """Read the files, or return what an earlier call in this process read.

    Args:
        folder: Where they are; None for the installed package's own folder.
        model: The name for errors.

    Raises:
        ModelRefused: A file is missing or damaged.

    """
    with _loading:
        if folder not in _loaded:
            _loaded[folder] = read(folder or package_folder(), model=model)
        return _loaded[folder]


def loaded(folder: Path | None) -> bool:
    """Tell if `load` has nothing left to read."""
    return folder in _loaded
