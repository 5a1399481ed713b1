"""Makes the fixtures of Hugging Face tokenizers: small trained ones of each kind, and what the
library `tokenizers` (or `sentencepiece`) makes of many texts.

    python make.py        (needs tokenizers, transformers >= 5, sentencepiece)

Beside this script: texts.json, the texts, and texts-unigram.json, those of Unigram tokenizers; KIND/ with
the files of a model's directory; KIND/golden.json, for each text the ids with special tokens added and
parsed."""

import io
import json
import random
import shutil
import tempfile
import warnings
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import processors, trainers

HERE = Path(__file__).parent
VOCAB = 480

GPT_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (GPT_CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
         r"|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT4O = CASED % (GPT_CONTRACTIONS + "?", GPT_CONTRACTIONS + "?", "{1,3}")
TEKKEN = CASED % ("", "", "")
DEEPSEEK3 = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
             r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]
DEEPSEEK_CODER = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"]
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"

PARTS = [
    "Hello", " world", "the", " The", "I'll", "we'RE", "don't", "'s", "x1", "12345", "3.14", " 1,000", "007",
    "na\u00efve", "cafe\u0301", "\u00c5ngstr\u00f6m", "\u041f\u0440\u0438\u0432\u0435\u0442", "\u043c\u0438\u0440",
    "漢字", "かな", "カナ", "한국어", "العربية", "हिन्दी", "ไทย", "👍", "🦙🦙", "👩\u200d💻", "\u200b", "\ufeff", "\u00a0",
    "\u3000", "\t", "\n", "\n\n", "\r\n", "   ", " ", "  \n", "(", ")", "...", "!?", "--", "==>", "/*", "*/", "<b>",
    "&amp;", "#", "$x", "@y", "_z", "camelCase", "HTTPServer", "snake_case", "ßtraße", "İstanbul", "ǅ", "ⅷ", "½", "٣",
    "\u0001", "\u007f", "\u0085", "\u2028", "e\u0301\u0302", "ﬁ", "Ａ", "＄", "<s>", "</s>", "<unk>", "<|end|>", "[MASK]",
    "<extra>", "[UNK]", "▁", "##ing", "ing", "er", "\\n", "\"q\"", "`c`", "a" * 30, "zzzzzzzzzz", "日本語123", "１２３",
]


def texts() -> list[str]:
    """Parts alone, and joined at random; the same every time."""
    rng = random.Random(7)
    joined = ["".join(rng.choices(PARTS, k=rng.randint(2, 6))) for _ in range(200)]
    return ["", *PARTS, *joined]


# Where scripts stand in Unicode, with much that NFKC changes.
SCRIPTS = [(0x20, 0x7f), (0xa0, 0x180), (0x2b0, 0x370), (0x370, 0x530), (0x5d0, 0x700), (0x900, 0xa00), (0xe01, 0xe60),
           (0x1100, 0x1200), (0x1e00, 0x2000), (0x2000, 0x2070), (0x2100, 0x2190), (0x2460, 0x2500), (0x3000, 0x3400),
           (0x4e00, 0x4f00), (0xac00, 0xad00), (0xf900, 0xfa00), (0xfb00, 0xfe70), (0xff00, 0xfff0), (0x1d400, 0x1d500),
           (0x1f300, 0x1f400), (0x0, 0x20), (0x300, 0x370)]


def unigram_texts() -> list[str]:
    """Those, and random characters of all scripts."""
    rng = random.Random(13)
    more = []
    for _ in range(300):
        scripts = rng.choices(SCRIPTS, k=rng.randint(1, 4))
        words = ["".join(chr(rng.randrange(*rng.choice(scripts))) for _ in range(rng.randint(1, 8))) for _ in range(rng.randint(1, 6))]
        more.append(rng.choice([" ", " ", "  ", "\n", "\u3000"]).join(words))
    return texts() + more


def corpus() -> list[str]:
    """What the tokenizers are trained on: enough of everything that merges cross where they may."""
    rng = random.Random(11)
    words = ["the", "world", "Hello", "hello", "naïve", "漢字", "Привет", "camelCase", "don't", "12345", "ing", "er"]
    mixed = [" ".join(rng.choices(words, k=8)) for _ in range(200)]
    return mixed + [t for t in texts() if "<" not in t and "[" not in t] * 3


def sequence(*patterns, last=pre.ByteLevel(add_prefix_space=False, use_regex=False), between=()):
    splits = [pre.Split(Regex(p), "isolated") for p in patterns]
    return pre.Sequence([*splits, *between, last])


DIGITS = pre.Digits(individual_digits=True)
GPT2 = pre.ByteLevel(add_prefix_space=False)
BYTE_LEVEL = {
    "gpt-2": (GPT2, {}),
    "starcoder": (pre.Sequence([DIGITS, GPT2]), {}),
    "llama-bpe": (sequence(LLAMA3), {"ignore_merges": True, "bos": True}),
    "qwen2": (sequence(QWEN2), {"nfc": True}),
    "gpt-4o": (sequence(GPT4O), {}),
    "tekken": (sequence(TEKKEN), {"bos": True}),
    "deepseek-v3": (sequence(*DEEPSEEK3), {"bos": True}),
    "deepseek-coder": (sequence(*DEEPSEEK_CODER, between=[DIGITS]), {}),
    "bloom": (sequence(BLOOM), {}),
}


def write(kind: str, tokenizer: Tokenizer, config: dict, more: dict[str, bytes] = {}, golden=None) -> None:
    """Writes a directory and what its tokenizer makes of the texts."""
    folder = HERE / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(compact(json.loads(tokenizer.to_str())))
    for name, content in more.items():
        (folder / name).write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    golden = golden or (lambda text: tokenizer.encode(text).ids)
    of = unigram_texts() if kind.startswith("unigram") else texts()
    (folder / "golden.json").write_text(compact([golden(text) for text in of]))


def compact(value) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def byte_level(kind: str, splitter, ignore_merges=False, bos=False, nfc=False) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    if ignore_merges:
        tokenizer = without_some_merges(tokenizer)
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("<|end|>", special=True, rstrip=True)])
    tokenizer.add_tokens([AddedToken("<extra>", lstrip=True, normalized=False)])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    write(kind, tokenizer, {"bos_token": "<s>" if bos else None, "eos_token": {"content": "<|end|>"}})


def without_some_merges(tokenizer: Tokenizer) -> Tokenizer:
    """Every seventh merge forgotten, its token kept: only whole words can become it."""
    content = json.loads(tokenizer.to_str())
    merges = content["model"]["merges"]
    content["model"]["merges"] = [m for i, m in enumerate(merges) if i % 7 != 3]
    content["model"]["ignore_merges"] = True
    return Tokenizer.from_str(json.dumps(content))


def character_level(kind: str, normalizer, splitter, bos=True) -> None:
    """BPE as Llama 2, Mistral and Gemma have it in tokenizer.json, trained by `tokenizers`: pairs that
    make a token are not always merges."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if splitter is not None:
        tokenizer.pre_tokenizer = splitter
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=len(special) + 320, special_tokens=special, show_progress=False, max_token_length=12)
    spaced = [text.replace(" ", "▁") for text in corpus()]
    tokenizer.train_from_iterator(spaced, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_tokens([AddedToken("<extra>", normalized=False)])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    write(kind, tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def sentence_piece(kind: str, add_dummy_prefix: bool) -> None:
    """A tokenizer.model alone, and what SentencePiece makes of texts without special tokens."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=out, vocab_size=VOCAB + 200, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=add_dummy_prefix,
        allow_whitespace_only_pieces=True, split_digits=True, user_defined_symbols=["<extra>"], character_coverage=0.98,
        minloglevel=2, num_threads=1)
    model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    # Spellings of special tokens are text to SentencePiece: a split at them is transformers'.
    names = ["<s>", "</s>", "<unk>", "▁", *["<extra>"] * add_dummy_prefix]
    golden = lambda text: None if any(n in text for n in names) else [1, *model.encode(text)]
    config = {"bos_token": "<s>", "add_bos_token": True, "add_eos_token": False}
    write(kind, None, config, {"tokenizer.model": out.getvalue()}, golden)


# Some of what NFKC does, so that fixtures are small: half-width kana, ligatures, composition, spaces.
RULES = {"Ａ": "A", "＄": "$", "ﬁ": "fi", "e\u0301": "é", "e\u0301\u0302": "é\u0302", "½": "1\u20442", "\u3000": " ", "\t": " ",
         "\u200b": "", "１２": "12", "１": "1", "カ": "か"}


def unigram_model(**options) -> bytes:
    """A model that SentencePiece trains."""
    out = io.BytesIO()
    spaced = [text.replace("\n", " ").replace("\r", " ") for text in corpus()]
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        if options.get("normalization_rule_name") is None:
            points = lambda text: " ".join(f"{ord(c):X}" for c in text)
            rules.write("".join(f"{points(a)}\t{points(b)}\n" for a, b in RULES.items()))
            rules.flush()
            options = options | {"normalization_rule_tsv": rules.name}
            del options["normalization_rule_name"]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(spaced), model_writer=out, model_type="unigram", hard_vocab_limit=False, character_coverage=0.98,
            minloglevel=2, num_threads=1, **{"vocab_size": VOCAB} | options)
    return out.getvalue()


def unigram_sentence_piece(kind: str, **options) -> None:
    """A tokenizer.model alone."""
    content = unigram_model(**options)
    model = sentencepiece.SentencePieceProcessor(model_proto=content)
    names = ["<s>", "</s>", "<unk>", "<extra>"]
    golden = lambda text: None if any(n in text for n in names) else [1, *model.encode(text), 2]
    config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "add_eos_token": True}
    write(kind, None, config, {"tokenizer.model": content}, golden)


def unigram(kind: str, normalizer, splitter, around: str, byte_fallback=False, **options) -> None:
    """A tokenizer.json as transformers makes it of a model of SentencePiece; `normalizer` takes the map of characters."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(unigram_model(byte_fallback=byte_fallback, **options))
    # XLM-RoBERTa's numbers.
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    vocab = [(name, 0.0) for name in names] + [(p.piece, p.score) for p in proto.pieces if p.type in (1, 6)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=3, byte_fallback=byte_fallback))
    charsmap = proto.normalizer_spec.precompiled_charsmap
    steps = normalizer(charsmap)
    if steps is not None:
        tokenizer.normalizer = steps
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.add_special_tokens([AddedToken("[MASK]", special=True, lstrip=True)])
    tokenizer.add_tokens([AddedToken("<extra>", normalized=False)])
    pair = "<s> $A </s> </s> $B </s>" if around.startswith("<s>") and around.endswith("</s>") else None
    special = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single=around, pair=pair, special_tokens=special)
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "[MASK]"}
    write(kind, tokenizer, config)
    if pair:
        pairs = [p for p in zip(texts(), texts()[1:]) if not any("<" in t or "[" in t for t in p)]
        content = [[*p, tokenizer.encode(*p).ids] for p in pairs[:40]]
        (HERE / kind / "pairs.json").write_text(compact(content))


def unigrams() -> None:
    (HERE / "texts-unigram.json").write_text(compact(unigram_texts()))
    collapse = lambda content: normalizers.Replace(Regex(" {2,}"), content)
    metaspace = pre.Metaspace(prepend_scheme="always")
    nmt = {"normalization_rule_name": "nmt_nfkc"}
    unigram("unigram-xlm-roberta", lambda m: normalizers.Sequence([normalizers.Precompiled(m), collapse(" ")]),
            pre.Sequence([pre.WhitespaceSplit(), metaspace]), "<s> $A </s>", **nmt)
    own = {"normalization_rule_name": None}
    unigram("unigram-t5", lambda m: normalizers.Sequence([normalizers.Precompiled(m), normalizers.Strip(left=False), collapse("▁")]),
            metaspace, "$A </s>", **own)
    # Tokens that reach over spaces, and bytes of what has none.
    unigram("unigram-bytes", lambda m: None, pre.Metaspace(prepend_scheme="first", split=False), "<s> $A", byte_fallback=True,
            split_by_whitespace=False, remove_extra_whitespaces=False, normalization_rule_name="identity", vocab_size=VOCAB + 256)
    unigram_sentence_piece("unigram-sentencepiece", **nmt)
    unigram_sentence_piece("unigram-sentencepiece-rules", **own, byte_fallback=True, vocab_size=VOCAB + 256)
    unigram_sentence_piece("unigram-sentencepiece-no-prefix", normalization_rule_name="identity", add_dummy_prefix=False,
                           remove_extra_whitespaces=False, split_by_whitespace=False, allow_whitespace_only_pieces=True)


def word_piece(kind: str, lowercase: bool) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "pad": "[PAD]", "mask": "[MASK]"}
    # GGUF spells the start of a word with U+2581, and takes that for one in the middle of a word.
    golden = lambda text: None if "▁" in text else tokenizer.encode(text).ids
    write(kind, tokenizer, {f"{role}_token": name for role, name in names.items()}, golden=golden)


def main() -> None:
    warnings.simplefilter("ignore")
    (HERE / "texts.json").write_text(compact(texts()))
    for kind, (splitter, options) in BYTE_LEVEL.items():
        byte_level(kind, splitter, **options)
    spaces = normalizers.Replace(" ", "▁")
    prepend = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    character_level("llama-2", prepend, None)
    character_level("mistral", None, pre.Metaspace(prepend_scheme="first", split=False))
    character_level("gemma", spaces, pre.Split(" ", "merged_with_previous"), bos=False)
    sentence_piece("sentencepiece", True)
    sentence_piece("sentencepiece-no-prefix", False)
    unigrams()
    word_piece("bert-uncased", True)
    word_piece("bert-cased", False)


if __name__ == "__main__":
    main()
