"""Trains the tokenizer: byte-level BPE of 4096 entries.

The pre-tokenizer is the one that GGUF calls `qwen2`: digits stand alone,
which helps a small model to copy and to compare numbers. Every one of the
256 bytes is an entry, so any text can be written.

    python -m builtin.tokenizer            # from models/; writes tokenizer.json
"""

from pathlib import Path
from pydoc_data.topics import topics

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .chat import SPECIALS

PATH = Path(__file__).with_name("tokenizer.json")
VOCAB = 4096
DOCUMENTS = 30_000
SEED = 7
# The qwen2 split, as published with Qwen2's tokenizer.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts():
    """Generated documents, and Python's own help pages as general English."""
    from .data import document

    for i in range(DOCUMENTS):
        text = "".join(t for t, _ in document(SEED, i))
        for special in SPECIALS:
            text = text.replace(special, "\n")
        yield text
    for _ in range(3):
        yield from topics.values()


def train():
    """The trained tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[AddedToken(s, special=True) for s in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def load():
    """The committed tokenizer."""
    return Tokenizer.from_file(str(PATH))


if __name__ == "__main__":
    train().save(str(PATH), pretty=False)
