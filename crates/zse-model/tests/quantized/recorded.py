"""What the scripts beside this one record of a model of transformers: KIND.golden, as ../golden/make.py
describes it, with another tensor: `down_proj` f32 [16, cols]."""

from pathlib import Path

import gguf
import numpy as np
import torch

PROMPT = [62, 3, 17, 44, 5, 60, 23, 8]


def record(kind: str, model, down_proj: np.ndarray) -> np.ndarray:
    """Writes what `model` computes, and gives the logits of the prompt."""
    ids = list(PROMPT)
    for _ in range(64):
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    logits = model(torch.tensor([PROMPT]), use_cache=False).logits[0].float().numpy()
    writer = gguf.GGUFWriter(Path(__file__).parent / f"{kind}.golden", "golden")
    writer.add_string("golden.model", kind)
    writer.add_uint32("golden.context", 0)
    writer.add_tensor("prompt.0", np.array(PROMPT, np.int32))
    writer.add_tensor("logits.0", logits)
    writer.add_tensor("continuation.0", np.array(ids[len(PROMPT):], np.int32))
    writer.add_tensor("down_proj", down_proj)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return logits
