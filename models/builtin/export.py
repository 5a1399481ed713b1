"""Writes the checkpoint as GGUF: the F16 master.

    python -m builtin.export WEIGHTS builtin/zse-builtin-f16.gguf          # from models/

`WEIGHTS` is the path that train.py saved under (`DIR/weights`). The shipped
file is then made with `zse quantize`.
"""

import json
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType

from . import model as net
from . import tokenizer
from .chat import END_OF_TEXT, IM_END, SPECIALS, TEMPLATE

DESCRIPTION = "A small chat model that ships inside ZSE: stories, ZSE's commands, tool calls, JSON extraction, passages."


def add_metadata(w, c):
    """Name, licence and sizes."""
    w.add_name("ZSE built-in")
    w.add_author("The ZSE authors")
    w.add_organization("ZSE")
    w.add_description(DESCRIPTION)
    w.add_license("apache-2.0")
    w.add_size_label("13M")
    w.add_languages(["en"])
    w.add_file_type(LlamaFileType.MOSTLY_F16)
    w.add_context_length(c.context)
    w.add_embedding_length(c.dim)
    w.add_block_count(c.layers)
    w.add_feed_forward_length(c.ffn)
    w.add_head_count(c.heads)
    w.add_head_count_kv(c.kv_heads)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_rope_dimension_count(c.head_dim)
    w.add_rope_freq_base(c.rope_theta)
    w.add_layer_norm_rms_eps(c.eps)
    w.add_vocab_size(c.vocab)


def add_tokenizer(w, bpe):
    """Entries, merges, special ids and the chat template."""
    merges = json.loads(bpe.to_str())["model"]["merges"]
    tokens = [bpe.id_to_token(i) for i in range(bpe.get_vocab_size())]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types([TokenType.CONTROL if t in SPECIALS else TokenType.NORMAL for t in tokens])
    w.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in merges])
    w.add_bos_token_id(bpe.token_to_id(END_OF_TEXT))
    w.add_eos_token_id(bpe.token_to_id(IM_END))
    w.add_pad_token_id(bpe.token_to_id(END_OF_TEXT))
    w.add_add_bos_token(False)
    w.add_add_eos_token(False)
    w.add_chat_template(TEMPLATE.read_text(encoding="utf-8").rstrip("\n"))


def export(weights, path):
    """The whole file: matrices in F16, norms in F32, the output shared with the embedding."""
    model, bpe = net.load(weights), tokenizer.load()
    w = GGUFWriter(path, "llama")
    add_metadata(w, model.c)
    add_tokenizer(w, bpe)
    for name, value in model.state_dict().items():
        array = value.numpy()
        if array.ndim == 2:
            w.add_tensor(name, array.astype(np.float16), raw_dtype=GGMLQuantizationType.F16)
        else:
            w.add_tensor(name, array.astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    export(sys.argv[1], sys.argv[2])
