"""Makes the golden fixtures: tiny random models and what Hugging Face transformers computes.

    python make.py [NAME ...]        (needs torch, transformers >= 5, gguf, safetensors)

For each model, beside this script:

  NAME.gguf             the model in F32, with the metadata keys and tensor names that llama.cpp's
                        converter writes, and a vocabulary without meaning
  NAME/                 the same as transformers saves it, config.json and safetensors; of a model in
                        FP8 (whose numbers are rounded so, all others to BF16) there is only this
  NAME[-CASE].golden    what it computes, itself in GGUF: `golden.model` (file name),
                        `golden.context` (tokens that a sequence may grow to, 0: the model's own),
                        and for each prompt i the tensors
                          prompt.i        i32 [n]           token ids
                          logits.i        f32 [n, vocab]    next-token logits at every position
                          continuation.i  i32 [64]          greedy continuation
                        or, for an embedding model, prompt.i and
                          embedding.i     f32 [width]       pooled, not normalised
                        or, for a cross-encoder, prompt.i and
                          embedding.i     f32 [1]           the logit of the pair's relevance

Everything follows from the seeds. A seed is passed over if a greedy choice of any continuation is
nearly a tie, if the continuations are monotonous, or if the logit of a pair is next to nothing.
"""

import json
import math
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as hf
from safetensors.torch import save_file

HERE = Path(__file__).parent
VOCAB = 128
CLS, SEP = 2, 3  # of BERT's vocabulary
GREEDY = 64
LEAST_MARGIN = 5e-3

# The sizes that all configurations share.
SIZES = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    bos_token_id=126, eos_token_id=127, pad_token_id=127, attn_implementation="eager",
)


@dataclass
class Fixture:
    """A model to make."""

    name: str
    arch: gguf.MODEL_ARCH
    config: hf.PreTrainedConfig
    model: type
    embedding_std: float = 0.4
    final_norm: float = 1.0  # about the mean weight of the last norm
    prompts: tuple = (1, 9, 33)
    # Name of a case, its context and its prompt lengths; more than one for LongRoPE.
    cases: dict = field(default_factory=dict)
    pooling: gguf.PoolingType | None = None
    shard_size: str = "1GB"
    # Rows and columns that share a scale, of a model in FP8.
    fp8_block: tuple | None = None

    def file(self) -> str:
        """The model that its goldens name."""
        return self.name if self.fp8_block else f"{self.name}.gguf"


def fixtures() -> list[Fixture]:
    """All models, by architecture."""
    arch = gguf.MODEL_ARCH
    default = dict(rope_type="default", rope_theta=10000.0)
    llama3 = dict(
        rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=32,
    )
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=2.0,
                original_max_position_embeddings=64)
    longrope = dict(
        rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=96,
        short_factor=[1.0, 1.1, 1.3, 1.5], long_factor=[1.2, 2.5, 4.0, 8.0],
    )
    gemma_ropes = dict(
        sliding_attention=default,
        full_attention=dict(rope_type="linear", rope_theta=100000.0, factor=4.0),
    )
    gemma = dict(SIZES, head_dim=16, sliding_window=8, hidden_activation="gelu_pytorch_tanh")
    moe = dict(num_experts_per_tok=2)
    bert = {k: v for k, v in SIZES.items() if k != "num_key_value_heads"}
    bert |= dict(max_position_embeddings=64, layer_norm_eps=1e-12)
    result = [
        Fixture("llama2", arch.LLAMA,
                hf.LlamaConfig(**SIZES | dict(num_key_value_heads=4), rope_parameters=default),
                hf.LlamaForCausalLM, shard_size="60KB"),
        Fixture("llama3", arch.LLAMA,
                hf.LlamaConfig(**SIZES, tie_word_embeddings=True, rope_parameters=llama3),
                hf.LlamaForCausalLM),
        Fixture("mistral", arch.LLAMA,
                hf.MistralConfig(**SIZES, head_dim=16, sliding_window=None,
                                 rope_parameters=dict(default, rope_theta=1e6)),
                hf.MistralForCausalLM),
        Fixture("mixtral", arch.LLAMA,
                hf.MixtralConfig(**SIZES, **moe, num_local_experts=4, sliding_window=None,
                                 rope_parameters=dict(default, rope_theta=1e6)),
                hf.MixtralForCausalLM),
        Fixture("qwen2", arch.QWEN2,
                hf.Qwen2Config(**SIZES, tie_word_embeddings=True,
                               rope_parameters=dict(default, rope_theta=1e6)),
                hf.Qwen2ForCausalLM),
        Fixture("qwen2-yarn", arch.QWEN2,
                hf.Qwen2Config(**SIZES | dict(num_attention_heads=2, num_key_value_heads=1),
                               rope_parameters=yarn),
                hf.Qwen2ForCausalLM),
        Fixture("qwen3", arch.QWEN3,
                hf.Qwen3Config(**SIZES, head_dim=16, rope_parameters=dict(default, rope_theta=1e6)),
                hf.Qwen3ForCausalLM),
        Fixture("qwen3-fp8", arch.QWEN3,
                hf.Qwen3Config(**SIZES, head_dim=16, rope_parameters=dict(default, rope_theta=1e6)),
                hf.Qwen3ForCausalLM, fp8_block=(24, 16)),
        Fixture("qwen3moe", arch.QWEN3MOE,
                hf.Qwen3MoeConfig(**SIZES, **moe, head_dim=16, num_experts=6, norm_topk_prob=True,
                                  moe_intermediate_size=24,
                                  rope_parameters=dict(default, rope_theta=1e6)),
                hf.Qwen3MoeForCausalLM),
        Fixture("gemma2", arch.GEMMA2,
                hf.Gemma2Config(**gemma | dict(num_hidden_layers=3), query_pre_attn_scalar=16,
                                attn_logit_softcapping=4.0, final_logit_softcapping=8.0,
                                rope_parameters=default),
                hf.Gemma2ForCausalLM, embedding_std=0.12, final_norm=5.0),
        Fixture("gemma3", arch.GEMMA3,
                hf.Gemma3TextConfig(**gemma | dict(num_hidden_layers=7), query_pre_attn_scalar=16,
                                    rope_parameters=gemma_ropes),
                hf.Gemma3ForCausalLM, embedding_std=0.12, final_norm=5.0),
        Fixture("phi3", arch.PHI3, hf.Phi3Config(**SIZES, rope_parameters=default),
                hf.Phi3ForCausalLM),
        Fixture("phi3-window", arch.PHI3,
                hf.Phi3Config(**SIZES, sliding_window=16, rope_parameters=default),
                hf.Phi3ForCausalLM),
        Fixture("phi3-longrope", arch.PHI3,
                hf.Phi3Config(**SIZES, rope_parameters=longrope,
                              original_max_position_embeddings=96),
                hf.Phi3ForCausalLM, final_norm=2.0,
                cases={"short": (96, (1, 20, 32)), "long": (256, (97, 104))}),
        Fixture("starcoder2", arch.STARCODER2,
                hf.Starcoder2Config(**SIZES, use_bias=True, sliding_window=None,
                                    tie_word_embeddings=True, rope_parameters=default),
                hf.Starcoder2ForCausalLM, embedding_std=0.2, final_norm=3.0),
    ]
    for name, pooling in [("bert-mean", gguf.PoolingType.MEAN), ("bert-cls", gguf.PoolingType.CLS)]:
        result.append(Fixture(name, arch.BERT, hf.BertConfig(**bert), hf.BertModel,
                              pooling=pooling, prompts=(1, 9, 33, 64)))
    # Positions begin behind that of padding, 1.
    xlm = bert | dict(max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5)
    result.append(Fixture("xlm-roberta", arch.BERT, hf.XLMRobertaConfig(**xlm), hf.XLMRobertaModel,
                          pooling=gguf.PoolingType.CLS, prompts=(1, 9, 33, 64)))
    result.append(Fixture("xlm-roberta-rank", arch.BERT, hf.XLMRobertaConfig(**xlm, num_labels=1),
                          hf.XLMRobertaForSequenceClassification,
                          pooling=gguf.PoolingType.RANK, prompts=(9, 33, 64)))
    result.append(Fixture("bert-rank", arch.BERT, hf.BertConfig(**bert, num_labels=1, sep_token_id=SEP),
                          hf.BertForSequenceClassification,
                          pooling=gguf.PoolingType.RANK, prompts=(9, 33, 64)))
    for fixture in result:
        fixture.cases = fixture.cases or {"": (0, fixture.prompts)}
    return result


def randomize(model: torch.nn.Module, fixture: Fixture, seed: int) -> None:
    """Random weights of unit gain, norms and biases included."""
    rng = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=rng)
        if p.ndim == 1:
            p.data += 0.2 * noise + (fixture.final_norm - 1 if name == "model.norm.weight" else 0)
        elif "embed" in name:
            p.data = fixture.embedding_std * noise
        else:
            p.data = noise * 1.2 / math.sqrt(p.shape[-1])


@torch.no_grad()
def logits(model, ids: list[int]) -> torch.Tensor:
    """Next-token logits at every position, `[n, vocab]`."""
    return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def continue_greedily(model, prompt: list[int]) -> tuple[list[int], float]:
    """The most likely continuation, and the least lead of a chosen token over the next."""
    ids, margin = list(prompt), math.inf
    for _ in range(GREEDY):
        top = torch.topk(logits(model, ids)[-1], 2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        ids.append(int(top.indices[0]))
    return ids[len(prompt):], margin


def golden(fixture: Fixture, model, seed: int) -> dict[str, dict[str, np.ndarray]] | None:
    """The tensors of each case; `None` if a choice is nearly a tie or the text monotonous."""
    rng = np.random.default_rng(seed)
    cases = {}
    for case, (_, lengths) in fixture.cases.items():
        tensors = cases[case] = {}
        for i, n in enumerate(lengths):
            ids = rng.integers(0, VOCAB - 2, n).tolist()
            if model.config.model_type == "xlm-roberta":
                ids = [max(id, 2) for id in ids]  # padding has no position of its own
            tensors[f"prompt.{i}"] = np.array(ids, np.int32)
            if fixture.pooling == gguf.PoolingType.RANK:
                ids = [max(id, 5) for id in ids]  # no control tokens within a text
                tensors[f"embedding.{i}"] = relevance(model, ids, n // 3)
                if abs(tensors[f"embedding.{i}"][0]) < 0.05:
                    return None  # errors are told in parts of it
                tensors[f"prompt.{i}"] = np.array(ids, np.int32)
                continue
            if fixture.pooling is not None:
                with torch.no_grad():
                    states = model(torch.tensor([ids])).last_hidden_state[0]
                mean = fixture.pooling == gguf.PoolingType.MEAN
                tensors[f"embedding.{i}"] = (states.mean(0) if mean else states[0]).numpy()
                continue
            more, margin = continue_greedily(model, ids)
            if margin < LEAST_MARGIN or len(set(more)) < 6:
                return None
            tensors[f"logits.{i}"] = logits(model, ids).numpy()
            tensors[f"continuation.{i}"] = np.array(more, np.int32)
    return cases


@torch.no_grad()
def relevance(model, ids: list[int], separator: int) -> np.ndarray:
    """The logit of a query, whose end is put in place at `separator`, and a document."""
    ids[0], ids[separator], ids[-1] = CLS, SEP, SEP
    if model.config.type_vocab_size == 1:
        return model(torch.tensor([ids])).logits[0].numpy()
    types = [int(i > separator) for i in range(len(ids))]
    return model(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits[0].numpy()


def permute(w: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a head from halves (transformers) to neighbours (GGUF's llama)."""
    return w.reshape(heads, 2, -1, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def tensors_of(fixture: Fixture, model) -> dict[str, torch.Tensor]:
    """The model's tensors by GGUF name."""
    config, arch = model.config, fixture.arch
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    result = {}
    for name, w in model.state_dict().items():
        if fixture.pooling == gguf.PoolingType.RANK:
            # The converter's names are those of heads that are written as one module.
            name = name.replace("bert.pooler.dense.", "classifier.dense.")
            name = re.sub(r"^classifier\.(weight|bias)", r"classifier.out_proj.\1", name)
            name = name.removeprefix("bert.").removeprefix("roberta.")
        if config.model_type == "xlm-roberta" and name == "embeddings.position_embeddings.weight":
            w = w[2:]
        if name.startswith("pooler.") or (name == "lm_head.weight" and config.tie_word_embeddings):
            continue
        parts = {name: w}
        if name.endswith("experts.gate_up_proj"):
            gate, up = w.chunk(2, dim=1)
            base = name.removesuffix("gate_up_proj")
            parts = {f"{base}gate_proj.weight": gate, f"{base}up_proj.weight": up}
        elif name.endswith("experts.down_proj"):
            parts = {f"{name}.weight": w}
        for part, w in parts.items():
            new = names.get_name(part, try_suffixes=(".weight", ".bias"))
            assert new is not None, f"{part} has no GGUF name"
            if arch == gguf.MODEL_ARCH.LLAMA and ".attn_q." in new:
                w = permute(w, config.num_attention_heads)
            if arch == gguf.MODEL_ARCH.LLAMA and ".attn_k." in new:
                w = permute(w, config.num_key_value_heads)
            if arch in (gguf.MODEL_ARCH.GEMMA2, gguf.MODEL_ARCH.GEMMA3) and "norm" in new:
                w = w + 1
            result[new] = w
    return result


def head_dim(config) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def write_rope(writer: gguf.GGUFWriter, config) -> None:
    """Keys and tensors of the rotary embedding."""
    rope = config.rope_parameters
    if local := rope.get("sliding_attention"):
        writer.add_rope_freq_base_swa(local["rope_theta"])
        rope = rope["full_attention"]
    writer.add_rope_freq_base(rope["rope_theta"])
    kind, original = rope["rope_type"], rope.get("original_max_position_embeddings")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
    elif kind == "longrope":
        scale = config.max_position_embeddings / original
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        for length in ("long", "short"):
            factors = np.array(rope[f"{length}_factor"], np.float32)
            writer.add_tensor(f"rope_factors_{length}.weight", factors)
    elif kind == "llama3":
        # Llama 3.1: what each frequency is divided by, by its wavelength.
        frequencies = rope["rope_theta"] ** -(np.arange(0, head_dim(config), 2) / head_dim(config))
        turns = original * frequencies / (2 * math.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        factors = 1 / ((1 - smooth) / rope["factor"] + smooth)
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))


def write_vocabulary(writer: gguf.GGUFWriter, model: str, types: int) -> None:
    """Printable ASCII, a space, and control tokens."""
    tokens = [chr(c) for c in range(33, 127)] + ["\u0120", "!!"]
    tokens += [f"<|{i}|>" for i in range(len(tokens), VOCAB)]
    if model == "bert":
        tokens[:5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    kinds = [gguf.TokenType.CONTROL if len(t) > 2 else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre("default" if model == "bert" else "gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kind) for kind in kinds])
    if model == "bert":
        writer.add_token_type_count(types)
        for add, i in [(writer.add_pad_token_id, 0), (writer.add_unk_token_id, 1),
                       (writer.add_bos_token_id, 2), (writer.add_sep_token_id, 3)]:
            add(i)
    else:
        writer.add_token_merges(["! !"])
        writer.add_bos_token_id(VOCAB - 2)
        writer.add_eos_token_id(VOCAB - 1)


def write_model(fixture: Fixture, model) -> None:
    """NAME.gguf."""
    config, name = model.config, gguf.MODEL_ARCH_NAMES[fixture.arch]
    writer = gguf.GGUFWriter(HERE / f"{fixture.name}.gguf", name)
    writer.add_name("golden fixture")  # llama.cpp treats some names specially
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config.max_position_embeddings - 2 * (config.model_type == "xlm-roberta"))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    optional = [
        ("num_key_value_heads", writer.add_head_count_kv),
        ("head_dim", writer.add_key_length),
        ("head_dim", writer.add_value_length),
        ("rms_norm_eps", writer.add_layer_norm_rms_eps),
        ("layer_norm_eps", writer.add_layer_norm_eps),
        ("norm_epsilon", writer.add_layer_norm_eps),
        ("num_local_experts", writer.add_expert_count),
        ("num_experts_per_tok", writer.add_expert_used_count),
        ("moe_intermediate_size", writer.add_expert_feed_forward_length),
        ("sliding_window", writer.add_sliding_window),
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
    ]
    for key, add in optional:
        if (value := getattr(config, key, None)) is not None:
            add(value)
    if fixture.arch == gguf.MODEL_ARCH.LLAMA:
        writer.add_vocab_size(VOCAB)
    if fixture.arch in (gguf.MODEL_ARCH.LLAMA, gguf.MODEL_ARCH.PHI3):
        writer.add_rope_dimension_count(head_dim(config))
    if fixture.pooling is not None:
        writer.add_causal_attention(False)
        writer.add_pooling_type(fixture.pooling)
    else:
        write_rope(writer, config)
    write_vocabulary(writer, "bert" if fixture.pooling is not None else "gpt2", getattr(config, "type_vocab_size", 2))
    for name, w in tensors_of(fixture, model).items():
        writer.add_tensor(name, w.detach().float().contiguous().numpy())
    finish(writer)


def write_golden(fixture: Fixture, case: str, tensors: dict[str, np.ndarray]) -> None:
    """NAME[-CASE].golden."""
    suffix = f"-{case}" if case else ""
    writer = gguf.GGUFWriter(HERE / f"{fixture.name}{suffix}.golden", "golden")
    writer.add_string("golden.model", fixture.file())
    writer.add_uint32("golden.context", fixture.cases[case][0])
    for name, data in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(data))
    finish(writer)


def round_to_fp8(fixture: Fixture, model) -> dict[str, torch.Tensor]:
    """Rounds matrices of layers to FP8 with a scale for each block, and all else to BF16, as does
    whoever computes with them; returns the tensors as they are stored."""
    rows, cols = fixture.fp8_block
    stored = {}
    for name, p in model.named_parameters():
        if not name.endswith("_proj.weight"):
            stored[name] = p.data.bfloat16()
            p.data = stored[name].float()
            continue
        scales = torch.empty(-(-p.shape[0] // rows), -(-p.shape[1] // cols))
        numbers = torch.empty(p.shape, dtype=torch.float8_e4m3fn)
        for i in range(scales.shape[0]):
            for j in range(scales.shape[1]):
                block = slice(i * rows, (i + 1) * rows), slice(j * cols, (j + 1) * cols)
                scales[i, j] = p.data[block].abs().max() / 448
                numbers[block] = (p.data[block] / scales[i, j]).to(torch.float8_e4m3fn)
                p.data[block] = (numbers[block].float() * scales[i, j]).bfloat16().float()
        stored[name], stored[f"{name}_scale_inv"] = numbers, scales
    return stored


def write_directory(fixture: Fixture, model, stored: dict[str, torch.Tensor]) -> None:
    """NAME/, of the tensors `stored` or, without these, of the model's own."""
    path = HERE / fixture.name
    shutil.rmtree(path, ignore_errors=True)
    if stored:
        model.config.save_pretrained(path)
        config = json.loads((path / "config.json").read_text())
        config |= dict(architectures=[fixture.model.__name__], quantization_config=dict(
            quant_method="fp8", weight_block_size=fixture.fp8_block, activation_scheme="dynamic"))
        (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_file(stored, path / "model.safetensors", metadata=dict(format="pt"))
    else:
        model.save_pretrained(path, max_shard_size=fixture.shard_size)
        (path / "generation_config.json").unlink(missing_ok=True)
    if fixture.pooling in (gguf.PoolingType.MEAN, gguf.PoolingType.CLS):
        pooling = dict(pooling_mode_mean_tokens=fixture.pooling == gguf.PoolingType.MEAN,
                       pooling_mode_cls_token=fixture.pooling == gguf.PoolingType.CLS)
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling/config.json").write_text(json.dumps(pooling) + "\n")


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    for fixture in fixtures():
        if wanted and fixture.name not in wanted:
            continue
        for seed in range(1, 200):
            model = fixture.model(fixture.config).eval()
            randomize(model, fixture, seed)
            stored = round_to_fp8(fixture, model) if fixture.fp8_block else {}
            if cases := golden(fixture, model, seed):
                break
        else:
            sys.exit(f"{fixture.name}: no seed without near ties")
        write_directory(fixture, model, stored)
        if not fixture.fp8_block:
            write_model(fixture, model)
        for case, tensors in cases.items():
            write_golden(fixture, case, tensors)
        print(f"{fixture.name}: seed {seed}")


if __name__ == "__main__":
    main()
