"""Writes the fuzz targets' seeds, seeds/TARGET/*: small valid inputs that between them use every part
of a format. Run it from any folder; the result is the same every time."""

import base64
import json
import math
import struct
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?",
           U64: "Q", I64: "q", F64: "d"}


def string(text: bytes) -> bytes:
    """A length and bytes."""
    return struct.pack("<Q", len(text)) + text


def value(ty: int, content) -> bytes:
    """A metadata value; an array's content is (element type, items)."""
    if ty == STRING:
        return string(content)
    if ty == ARRAY:
        element, items = content
        head = struct.pack("<IQ", element, len(items))
        return head + b"".join(value(element, item) for item in items)
    return struct.pack("<" + FORMATS[ty], content)


def gguf(metadata, tensors, version=3, alignment=32) -> bytes:
    """A file of (key, type, content) and (name, dims, type id, bytes of data)."""
    if alignment != 32:
        metadata = [*metadata, (b"general.alignment", U32, alignment)]
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, ty, content in metadata:
        out += string(key) + struct.pack("<I", ty) + value(ty, content)
    data = b""
    for name, dims, ty, size in tensors:
        data += b"\0" * (-len(data) % alignment)
        out += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, ty, len(data))
        data += bytes(i % 251 for i in range(size))
    return out + b"\0" * (-len(out) % alignment if tensors else 0) + data


def safetensors(tensors, metadata=None) -> bytes:
    """A file of (name, dtype, shape, bytes of data)."""
    header, at = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, dtype, shape, size in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(i % 251 for i in range(at))


SCALARS = [(U8, 7), (I8, -7), (U16, 700), (I16, -700), (U32, 7), (I32, -7), (F32, 0.5), (BOOL, True),
           (STRING, b"text"), (U64, 7), (I64, -7), (F64, 0.5)]
ARRAYS = [(ty, [content, content]) for ty, content in SCALARS]
GGUF = {
    "empty": gguf([], []),
    "scalars": gguf([(b"k.%d" % ty, ty, content) for ty, content in SCALARS], []),
    "arrays": gguf([(b"k.%d" % ty, ARRAY, (ty, items)) for ty, items in ARRAYS], []),
    "nested": gguf([(b"n", ARRAY, (ARRAY, [(ARRAY, [(U8, [1, 2])]), (STRING, [b"a", b"\xff"])]))], []),
    "tensors": gguf([(b"general.architecture", STRING, b"llama")],
                    [(b"norm", (4,), 0, 16), (b"q8_0", (32, 2), 8, 68), (b"q4_K", (256,), 12, 144)]),
    "aligned": gguf([], [(b"a", (3, 1, 2, 1), 24, 6), (b"b", (1,), 1, 2)], alignment=8),
    "version2": gguf([(b"k", STRING, b"v")], [(b"scalar", (), 0, 4)], version=2),
}

SAFETENSORS = {
    "empty": safetensors([]),
    "metadata": safetensors([("a", "F32", [], 4)], {"format": "pt", "a": "\u00e9"}),
    "matrices": safetensors([("a.weight", "BF16", [2, 3], 12), ("a.bias", "F16", [2], 4), ("none", "I64", [0, 2], 0)]),
    "fp8": safetensors([("w", "F8_E4M3", [2, 2], 4), ("w_scale_inv", "F32", [1, 1], 4), ("e", "F8_E8M0", [1], 1)]),
    "bits": safetensors([("four", "F4", [2, 1], 1), ("six", "F6_E3M2", [4], 3), ("u", "U64", [1], 8)]),
}

def zse(groups, metadata=()) -> bytes:
    """A file of groups of (name, type, layout, shape, bytes of data); its checksums are zeros."""
    index = {"provenance": {"converter": "seeds", "target": "cpu", "source": {"name": "", "bytes": 0, "xxh3": "0" * 16}},
             "groups": [], "tensors": []}
    data = b""
    for name, tensors in groups:
        data += b"\0" * (-len(data) % 4096)
        start = len(data)
        for tensor, ty, layout, shape, size in tensors:
            data += b"\0" * (-len(data) % 64)
            index["tensors"].append({"name": tensor, "type": ty, "layout": layout, "shape": shape, "offset": len(data),
                                     "bytes": size, "xxh3": "0" * 16})
            data += bytes(i % 251 for i in range(size))
        index["groups"].append({"name": name, "tensors": len(tensors), "offset": start, "bytes": len(data) - start})
    header = json.dumps(index, separators=(",", ":")).encode()
    entries = b"".join(string(key) + struct.pack("<I", ty) + value(ty, content) for key, ty, content in metadata)
    data_at = -(-(64 + len(header) + len(entries)) // 4096) * 4096
    prelude = b"\x89ZSE\r\n\x1a\n" + struct.pack(
        "<IIQQQQQQ", 1, len(metadata), len(header), len(entries), data_at, data_at + len(data), 0, 0)
    return (prelude + header + entries).ljust(data_at, b"\0") + data


# Small enough for the fuzzer's longest input.
ZSE = {
    "empty": zse([]),
    "metadata": zse([], [(b"general.architecture", STRING, b"llama"), (b"tokens", ARRAY, (STRING, [b"a", b"\xff"]))]),
    "tensors": zse([("input", [("a", "f16", "ggml", [4, 3], 24), ("b", "f32", "ggml", [2], 8)])]),
    "tiles": zse([("blk.0", [("a", "q8_0", "tiles16", [32, 17], 1088)])]),
    "groups": zse([("input", [("a", "f32", "ggml", [1], 4)]), ("output", [("b", "f16", "tiles16", [3, 1, 2], 256)])]),
}

TEMPLATES = {
    "loop": "{%- for m in messages %}{{ loop.index }}<|{{ m['role'] }}|>{{ m.content | trim }}\n{% endfor %}",
    "tools": "{% if tools is defined and tools %}{{ tools | tojson(indent=2) }}{% endif %}",
    "calls": "{% for m in messages if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}"
             "{% endfor %}{% else %}none{% endfor %}",
    "namespace": "{% set ns = namespace(l=[], s='') %}{% for m in messages[::-1] %}{% set ns.l = ns.l + [m.role] %}"
                 "{% set ns.s = ns.s ~ loop.index0 %}{% endfor %}{{ ns.l | join(', ') }} {{ ns.s }}",
    "macro": "{% macro f(a, b='x') %}{{ a }}{{ b * 2 }}{{ caller() if caller }}{% endmacro %}{{ f(1) }}"
             "{% call f('y') %}in{% endcall %}",
    "text": "{{ 'a,b'.split(',') }}{{ ' x '.strip() }}{{ 'abc'[::-1] }}{{ 'abc'.replace('b', '-') }}"
            "{{ 'a-b'.rsplit('-', 1) }}{{ '%s %d' | format('x', 3) }}{{ '{:>5}'.format(1) }}{{ 'ab'.startswith(['a']) }}",
    "lists": "{{ [3, 1] | sort }}{{ messages | map(attribute='role') | unique | list }}{{ [1, 2] | batch(1) | list }}"
             "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | groupby('role') }}",
    "maps": "{% set m = {'b': 1, 'a': [2]} %}{{ m | dictsort }}{{ m.get('c', 0) }}{{ m.items() | list }}{{ m | tojson }}",
    "numbers": "{{ 7 // 2 }}{{ -7 % 3 }}{{ 2 ** 10 }}{{ 1 < 2 < 3 }}{{ 2.5 | round }}{{ '4' | int + 1 }}{{ range(3) | sum }}",
    "blocks": "{% block a %}x{% endblock %}{{ self.a() }}{% filter upper %}y{% endfilter %}{% with a = 1 %}{{ a }}{% endwith %}"
              "{%- generation %}g{% endgeneration -%}{% raw %}{{ x }}{% endraw %}{# c #}",
    "date": "{{ strftime_now('%d %b %Y') }}{% if not messages %}{{ raise_exception('none') }}{% endif %}",
    "recursive": "{% for n in [[1], [[2]]] recursive %}{{ loop(n) if n is iterable else n }}{% endfor %}",
}

def charsmap() -> bytes:
    """SentencePiece's map of characters: "a" becomes "xy", "ab" becomes "z"."""
    units = [0] * 0x65
    # The root's children are at their bytes; behind "a" they are at theirs ^ 0x63, where its value is.
    units[0x61] = 0x61 | 1 << 8 | (0x61 ^ 0x63) << 10
    units[0x63] = 1 << 31
    units[0x63 ^ 0x62] = 0x62 | 1 << 8 | (0x63 ^ 0x62 ^ 0x64) << 10
    units[0x64] = 1 << 31 | 3
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + b"xy\0z\0"


CHARSMAP = charsmap()

# The name of the pre-tokenizer, the text, and the vocabulary.
TOKENIZERS = {
    "spm": ["spm", "ab é<s>a", "u<unk>", "c<s>", "c</s>", "n▁", "na", "nb", "nab", "n▁a", "b<0xC3>", "b<0xA9>", "d  "],
    "bert": ["bert", "Unable, été 漢", "u[UNK]", "c[CLS]", "n▁un", "nable", "n▁,", "n▁漢"],
    "gpt2": ["gpt-2", "abc ab 12\n\n", "na", "nb", "nc", "nĠ", "nab", "nbc", "nĠa", "mb c", "ma b", "mĠ a", "c<|x|>"],
    "llama3": ["llama-bpe", "abc  a'LL\n", "na", "nb", "nĠ", "nabc", "nĠĠ", "mĠ Ġ", "d<|im_start|>", "d<|im_end|>"],
    "gemma4": ["gemma4", "a a\n\né", "na", "n▁", "n▁a", "n\n\n", "b<0xC3>", "b<0xA9>", "m▁ a"],
    "jais2": ["jais-2", "   \t\n 1", "nĠ", "nĠĠ", "mĠ Ġ", "nĊ"],
    "thousands": ["tiny_aya", "1234567 1234x", "n1", "n2", "n12", "m1 2"],
    "deepseek": ["deepseek-llm", "一 ab  ", "nĠ", "na", "nb", "mĠ a"],
    "kimi": ["kimi-k2", "漢Ab漢", "næ", "n¼", "n¢", "mæ ¼"],
    "unigram": ["t5rp", " ab  c ab", "u<unk>", "c</s>", "n▁", "na", "nab", "n▁a", "b<0x63>"],
    "unigram_sentencepiece": ["t5Sr", "aba éa<x> b", "u<unk>", "n▁a", "na", "nb", "nba", "d<x>", "p" + CHARSMAP.hex()],
    "unigram_tokenizers": ["t5Tswcp", "a b\u0301a  ", "u<unk>", "n▁", "na", "nxy", "nz", "p" + CHARSMAP.hex()],
    "phi3": ["spm", "3<s>  a", "u<unk>", "c<s>", "d<|end|>", "n▁", "na"],
}



def varint(n: int) -> bytes:
    """A number of a protocol buffer."""
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number: int, content) -> bytes:
    """A field of a protocol buffer: bytes, or a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def sentence_piece(pieces, model_type=2, bos=1, prefix=1) -> bytes:
    """A tokenizer.model of (text, score, type)."""
    out = b"".join(
        field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + field(3, ty)) for text, score, ty in pieces)
    return out + field(2, field(3, model_type) + field(41, bos)) + field(3, field(3, prefix))


HF_FILES = ["config", "generation_config", "tokenizer", "sentence_piece", "tokenizer_config", "special_tokens_map",
            "added_tokens", "chat_template", "chat_template_json", "name", "text"]


def hf(**files) -> bytes:
    """The parts of an input of hf_tokenizer."""
    assert files.keys() <= set(HF_FILES)
    part = lambda content: content if isinstance(content, bytes) else \
        content.encode() if isinstance(content, str) else json.dumps(content).encode()
    parts = [part(files[name]) if name in files else b"" for name in HF_FILES]
    return b"\x1e".join(part.replace(b"\x1e", b"\x1f") for part in parts)


def bpe(vocab: str, merges, pre_tokenizer, normalizer=None, **more):
    """A tokenizer.json of BPE; tokens are separated by spaces."""
    model = {"type": "BPE", "vocab": {token: i for i, token in enumerate(vocab.split(" "))}, "merges": merges, **more}
    added = [{"id": 0, "content": "<s>", "special": True}, {"id": 9, "content": "<x>", "lstrip": True, "rstrip": True}]
    around = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}
    return {"model": model, "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
            "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, around]}}


BYTES = {"type": "ByteLevel", "add_prefix_space": False}
PIECES = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<0x41>", 0.0, 6), ("▁", -3.0, 1), ("a", -4.0, 1),
          ("▁a", -1.0, 1), ("<x>", 0.0, 4), ("", 0.0, 5)]
HF = {
    "byte_level": hf(
        config={"vocab_size": 12, "eos_token_id": [2, 3]}, text="ab a<x> b<s>",
        tokenizer=bpe("<s> a b Ġ ab Ġa", ["a b", "Ġ a"], {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "Isolated", "invert": False}, BYTES]},
            {"type": "NFC"}, ignore_merges=True)),
    "characters": hf(
        tokenizer=bpe("<s> a b ▁ ab ▁a <0x41>", [["a", "b"], ["▁", "a"]], {"type": "Metaspace", "prepend_scheme": "first"},
                      unk_token="a"), text="ab a A", tokenizer_config={"bos_token": {"content": "<s>"}, "add_bos_token": True}),
    "prepend": hf(
        tokenizer=bpe("<s> a b ▁ ab", ["a b"], None, {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}), text="ab a"),
    "sentence_piece": hf(
        sentence_piece=sentence_piece(PIECES), text=" a<x>A", added_tokens={"<y>": 9}, special_tokens_map={"eos_token": "</s>"},
        tokenizer_config={"added_tokens_decoder": {"7": {"content": "<x>", "special": False}}}),
    "unigram": hf(
        tokenizer={"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["▁", -2.0], ["a", -3.0], ["z", -3.5]]},
                   "normalizer": {"type": "Sequence", "normalizers": [
                       {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(CHARSMAP).decode()},
                       {"type": "Strip", "strip_left": False, "strip_right": True},
                       {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]},
                   "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                       {"type": "WhitespaceSplit"}, {"type": "Metaspace", "prepend_scheme": "always", "split": True}]}},
        text="ab a  c ", tokenizer_config={"eos_token": "a"}),
    "unigram_sentence_piece": hf(
        sentence_piece=sentence_piece(PIECES, model_type=1) + field(3, field(2, CHARSMAP) + field(4, 0)), text=" a<x>A"),
    "word_piece": hf(
        tokenizer={"model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "[CLS]": 1, "a": 2, "##b": 3}, "unk_token": "[UNK]"},
                   "normalizer": {"type": "BertNormalizer", "lowercase": True}, "pre_tokenizer": {"type": "BertPreTokenizer"}},
        text="AB c", tokenizer_config={"cls_token": "[CLS]", "chat_template": [{"name": "default", "template": "x"}]}),
    "templates": hf(
        sentence_piece=sentence_piece(PIECES, prefix=0), chat_template="{{ messages }}", name="tool use", text="a",
        generation_config={"eos_token_id": 2}, config={"text_config": {"vocab_size": 9}}),
}

# What models of each family write, behind a byte.
ANSWERS = {
    "hermes": '<think>\nHm.\n</think>\nSo: <tool_call>\n{"name": "f", "arguments": {"a": "}"}}\n</tool_call>',
    "llama": '{"name": "f", "parameters": {"a": [1]}}; {"name": "g", "parameters": {}}',
    "llama_python": "[f(a='x, )', b=[1, {\"c\": None}]), g()]<|python_end|>",
    "qwen_coder": "<think>Hm.</think><tool_call>\n<function=f>\n<parameter=a>\n1 < 2\n</parameter>\n"
                  "<parameter=n>\n[1]\n</parameter>\n</function>\n</tool_call>",
    "mistral": 'So:[TOOL_CALLS][{"name": "f", "arguments": {}, "id": "123456789"}]',
    "mistral_args": "[THINK]Hm.[/THINK][TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[CALL_ID]a[ARGS]{}",
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```"
                "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "gemma": '<|channel>thought\nHm.<channel|><|tool_call>call:f{a:<|"|>x<|"|>,n:[1]}<tool_call|>',
    "harmony": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary"
               " to=functions.f <|constrain|>json<|message|>{}<|call|>",
}

# What kind it is (a number of the families' forms begins at 4), and the text.
GRAMMARS = {
    "schema": (0, '{"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}, "b": {"enum": ["x", null]}},'
                  ' "required": ["a"], "additionalProperties": false}'),
    "schema_refers": (0, '{"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"type": "null"}, {"type": "array", "items":'
                         ' {"$ref": "#/$defs/a"}, "maxItems": 2}]}}}'),
    "schema_text": (0, '{"allOf": [{"type": "string", "pattern": "^[a-z]+$"}, {"minLength": 2, "maxLength": 5}]}'),
    "schema_formats": (0, '{"type": "array", "prefixItems": [{"type": "string", "format": "date"}, {"type": "number",'
                          ' "multipleOf": 0.5}], "items": false, "minItems": 2}'),
    "regex": (1, "(?i)[a-c]{2,5}-(?:yes|\\d+)\\.?"),
    "lark": (2, 'start: word ("," word)* end?\nword: /[a-z]+/ | %json {"type": "integer"}\nend: <[2]> | "x"~1..3'),
    "choice": (3, "yes\nno\nnobody"),
    "qwen_coder": (5, '{"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "array", "items":'
                      ' {"type": "string"}}}, "required": ["a", "b"]}'),
    "python": (7, '{"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": {"type": "object"}}}'),
    "deepseek": (10, '{"type": "object", "properties": {"a": {"const": {"b": [1.5]}}}}'),
    "gemma": (12, '{"type": "object", "properties": {"a": {"type": "string"}, "b": {"$ref": "#/$defs/c"}}, "$defs":'
                  ' {"c": {"type": "boolean"}}}'),
}

def peft(config: dict, *pairs: tuple[str, int, int, int]) -> bytes:
    """An adapter of modules (name, inputs, outputs, rank)."""
    tensors = []
    for module, inputs, outputs, rank in pairs:
        name = f"base_model.model.{module}"
        tensors.append((f"{name}.lora_A.weight", "F32", [rank, inputs], 4 * rank * inputs))
        tensors.append((f"{name}.lora_B.weight", "F32", [outputs, rank], 4 * outputs * rank))
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"} | config
    return b"\x01" + json.dumps(config).encode() + b"\0" + safetensors(tensors)


def directory(config: dict, tensors, dtype="BF16", layer="model.layers.0.", quantized=()) -> bytes:
    """A directory of (name, shape) of weights; names of a layer begin with a dot. Those of `quantized` come whole, as
    (name, dtype, shape, bytes of data)."""
    sizes = {"BF16": 2, "F32": 4, "F8_E4M3": 1}
    full = lambda name: layer + name[1:] if name.startswith(".") else name
    whole = [(full(name) + ".weight", dtype, shape, sizes[dtype] * math.prod(shape)) for name, shape in tensors]
    return json.dumps(config).encode() + b"\0" + safetensors(whole + [(full(name), *rest) for name, *rest in quantized])


# One layer of width 4, two query heads and a key head of length 2.
DECODER = {
    "model_type": "llama", "hidden_act": "silu", "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 3, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
}
AROUND = [("model.embed_tokens", [3, 4]), ("model.norm", [4]), (".input_layernorm", [4]), (".post_attention_layernorm", [4])]
ATTENTION = [(".self_attn.q_proj", [4, 4]), (".self_attn.k_proj", [2, 4]), (".self_attn.v_proj", [2, 4]),
             (".self_attn.o_proj", [4, 4])]
GATE = ".mlp.gate_proj"
UP_DOWN = [(".mlp.up_proj", [8, 4]), (".mlp.down_proj", [4, 8])]
LLAMA = AROUND + ATTENTION + [(GATE, [8, 4])] + UP_DOWN
NORMS = [(f".{name}", [size]) for name, size in [("pre_feedforward_layernorm", 4), ("post_feedforward_layernorm", 4),
                                                 ("self_attn.q_norm", 2), ("self_attn.k_norm", 2)]]
BERT = {
    "model_type": "bert", "hidden_act": "gelu", "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
    "num_attention_heads": 2, "layer_norm_eps": 1e-12, "max_position_embeddings": 3, "type_vocab_size": 2,
}
BERT_LAYER = [(f".{name}", shape) for name, shape in [
    ("attention.self.query", [4, 4]), ("attention.self.key", [4, 4]), ("attention.self.value", [4, 4]),
    ("attention.output.dense", [4, 4]), ("attention.output.LayerNorm", [4]), ("intermediate.dense", [4, 4]),
    ("output.dense", [4, 4]), ("output.LayerNorm", [4])]]
EXPERT = ".block_sparse_moe.experts.0"

# Smaller than the fuzzer's longest input.
DIRECTORIES = {
    "llama": directory(DECODER | {"rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}}, LLAMA),
    "untied": directory(DECODER | {"tie_word_embeddings": False}, LLAMA + [("lm_head", [3, 4])], "F32"),
    "mixture": directory(
        DECODER | {"num_local_experts": 1, "num_experts_per_tok": 1}, AROUND + ATTENTION + [
            (".block_sparse_moe.gate", [1, 4]), (f"{EXPERT}.w1", [8, 4]), (f"{EXPERT}.w3", [8, 4]), (f"{EXPERT}.w2", [4, 8])]),
    "gemma3": directory(DECODER | {
        "model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 16, "head_dim": 2,
        "query_pre_attn_scalar": 2}, LLAMA + NORMS),
    "bert": directory(BERT, [
        ("embeddings.word_embeddings", [3, 4]), ("embeddings.position_embeddings", [3, 4]),
        ("embeddings.token_type_embeddings", [2, 4]), ("embeddings.LayerNorm", [4]), *BERT_LAYER],
        layer="encoder.layer.0.", quantized=[
            (f"{name}.bias", "BF16", shape[:1], 2 * shape[0]) for name, shape in [("embeddings.LayerNorm", [4]), *BERT_LAYER]]),
    "fp8": directory(
        DECODER | {"quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 2]}}, AROUND + ATTENTION + UP_DOWN,
        quantized=[(f"{GATE}.weight", "F8_E4M3", [8, 4], 32), (f"{GATE}.weight_scale_inv", "F32", [2, 2], 16)]),
    "gptq": directory(
        DECODER | {"hidden_size": 8, "head_dim": 2,
                   "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": -1}},
        [(name, [8 if size == 4 else size for size in shape]) for name, shape in AROUND] + [
            (".self_attn.q_proj", [4, 8]), (".self_attn.k_proj", [2, 8]), (".self_attn.v_proj", [2, 8]),
            (".self_attn.o_proj", [8, 4]), (".mlp.up_proj", [8, 8]), (".mlp.down_proj", [8, 8])],
        quantized=[(f"{GATE}.qweight", "I32", [1, 8], 32), (f"{GATE}.qzeros", "I32", [1, 1], 4),
                   (f"{GATE}.scales", "F16", [1, 8], 16)]),
    "mlx": directory(
        DECODER | {"quantization": {"group_size": 4, "bits": 8}}, AROUND + ATTENTION + UP_DOWN,
        quantized=[(f"{GATE}.weight", "U32", [8, 1], 32), (f"{GATE}.scales", "BF16", [8, 1], 16),
                   (f"{GATE}.biases", "BF16", [8, 1], 16)]),
}


def adapter(alpha: float, *tensors) -> bytes:
    """An adapter in GGUF."""
    metadata = [(b"general.type", STRING, b"adapter"), (b"adapter.type", STRING, b"lora"),
                (b"general.architecture", STRING, b"llama"), (b"adapter.lora.alpha", F32, alpha)]
    return b"\0" + gguf(metadata, tensors)


UP, QUERY = "model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj"

LORA = {
    "peft": peft({}, (UP, 8, 16, 2), (QUERY, 8, 8, 2)),
    "peft_ranks": peft({"rank_pattern": {"up_proj": 1}, "alpha_pattern": {"^model.layers.0.*": 3}, "use_rslora": True,
                        "target_modules": "all-linear"}, (UP, 8, 16, 1), (QUERY, 8, 8, 2)),
    "gguf": adapter(4.0, (b"blk.0.ffn_up.weight.lora_a", [8, 2], 0, 64), (b"blk.0.ffn_up.weight.lora_b", [2, 16], 0, 128)),
    "gguf_f16": adapter(0.0, (b"blk.0.attn_q.weight.lora_a", [8, 1], 1, 16),
                        (b"blk.0.attn_q.weight.lora_b", [1, 8], 1, 16)),
}

SEEDS = {
    "answer": {name: b"\x02" + text.encode() for name, text in ANSWERS.items()},
    "directory": DIRECTORIES,
    "gguf": GGUF,
    "hf_tokenizer": HF,
    "lora": LORA,
    "safetensors": SAFETENSORS,
    "zse": ZSE,
    "grammar": {name: bytes([kind, 1]) + text.encode() for name, (kind, text) in GRAMMARS.items()},
    "template": {name: source.encode() for name, source in TEMPLATES.items()},
    "tokenizer": {name: b"\0".join(part.encode() for part in parts) for name, parts in TOKENIZERS.items()},
}

if __name__ == "__main__":
    for target, seeds in SEEDS.items():
        folder = Path(__file__).parent / "seeds" / target
        folder.mkdir(parents=True, exist_ok=True)
        for seed, content in seeds.items():
            (folder / seed).write_bytes(content)
