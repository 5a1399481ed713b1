"""Endless training batches, made by worker processes while the GPU trains.

Documents are generated in chunks; a chunk is packed into rows by first fit.
Rows come in the order of the chunks, so the stream depends on the seed alone
and not on the number of workers.
"""

import multiprocessing
import os

import numpy as np

CHUNK = 512  # documents packed together
UNSCORED, CONTEXT, SPOKEN = 0, 1, 2


def encode(tokenizer, documents):
    """`[(ids, classes)]` of documents given as `[(text, spoken)]`."""
    flat = [text for doc in documents for text, _ in doc]
    encoded = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
    out = []
    for doc in documents:
        ids, classes = [], []
        for _, spoken in doc:
            piece = next(encoded).ids
            ids += piece
            classes += [SPOKEN if spoken else CONTEXT] * len(piece)
        out.append((ids, classes))
    return out


def pack(encoded, width):
    """Rows `[n, 3, width]` of int16: token, class of the next token, document.

    First fit by falling length; a document longer than a row is cut.
    """
    rows, room = [], []
    for ids, classes in sorted(encoded, key=lambda e: -len(e[0])):
        n = min(len(ids), width)
        slot = next((i for i, free in enumerate(room) if free >= n), None)
        if slot is None:
            slot = len(rows)
            rows.append(np.zeros((3, width), np.int16))
            rows[-1][2] = -1
            room.append(width)
        at = width - room[slot]
        row = rows[slot]
        row[0, at : at + n] = ids[:n]
        row[1, at : at + n - 1] = classes[1:n]
        row[2, at : at + n] = at
        room[slot] -= n
    for row, free in zip(rows, room):
        if free:  # padding is a document of its own
            row[2, width - free :] = width - free
    return np.stack(rows)


def produce(queue, seed, first, step, width):
    """A worker: packs the chunks `first`, `first + step`, ... for ever."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from . import tokenizer
    from .data import document

    bpe = tokenizer.load()
    chunk = first
    while True:
        documents = [document(seed, chunk * CHUNK + i) for i in range(CHUNK)]
        queue.put(pack(encode(bpe, documents), width))
        chunk += step


class Stream:
    """Iterates over batches `[rows, 3, width]`."""

    def __init__(self, seed, rows, width, workers):
        context = multiprocessing.get_context("spawn")
        self.rows = rows
        self.queues = [context.Queue(3) for _ in range(workers)]
        self.processes = [
            context.Process(target=produce, args=(q, seed, i, workers, width), daemon=True) for i, q in enumerate(self.queues)
        ]
        for p in self.processes:
            p.start()

    def __iter__(self):
        held, turn = [], 0
        while True:
            while sum(len(h) for h in held) < self.rows:
                held.append(self.queues[turn % len(self.queues)].get())
                turn += 1
            all_rows = np.concatenate(held)
            yield all_rows[: self.rows]
            held = [all_rows[self.rows :]]

    def close(self):
        """Ends the workers."""
        for p in self.processes:
            p.terminate()
