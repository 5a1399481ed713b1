"""Makes the fixtures of adapters: LoRAs of random numbers for some of the models of `../golden`, and what
PEFT computes with them.

    python make.py [NAME ...]        (`merged` for merged.gguf alone; needs torch, transformers >= 5, peft, gguf)

For each adapter, beside this script:

  NAME/          the adapter as PEFT saves it
  NAME.gguf      the same with the metadata and names that llama.cpp's convert_lora_to_gguf.py writes,
                 where a GGUF file can say it: it has one alpha for all tensors
  NAME.golden    what the model computes with it, as ../golden/make.py describes it, and
                 `golden.adapter` (the name of NAME.gguf)

and, of all of them, merged.gguf: `NAME` f32 `[39]`, the log-probabilities of the tokens of MERGED_TEXT in the model
that PEFT's own `merge_and_unload` gives, and `NAME.base`, those in the model without the adapter.

Adapters of experts come in two forms. Since version 5, transformers keeps the experts of a layer in parameters,
which PEFT adapts as such (`target_parameters`). Before, they were modules, and so they are in the adapters of
that time: `make.py` writes one as they are, and what it computes is what PEFT makes of it as it converts it.

Everything follows from the seeds, of which one is passed over if a greedy choice is nearly a tie."""

import json
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as hf
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
PROMPTS = (1, 9, 33)
MERGED_TEXT = [3 + i * 5 % 61 for i in range(40)]
GREEDY = 64
LEAST_MARGIN = 5e-3
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


@dataclass
class Fixture:
    """An adapter to make."""

    name: str
    base: str
    arch: gguf.MODEL_ARCH
    config: dict = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    # Whether a GGUF file can say it.
    gguf: bool = True
    prompts: tuple = PROMPTS
    # Whether experts are modules, as with transformers 4.
    modules: bool = False


FIXTURES = [
    Fixture("llama2", "llama2", gguf.MODEL_ARCH.LLAMA,
            dict(r=4, lora_alpha=8, target_modules=ATTENTION + MLP + ["lm_head"])),
    Fixture("llama2-patterns", "llama2", gguf.MODEL_ARCH.LLAMA,
            dict(r=3, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"],
                 rank_pattern={"v_proj": 7, r"layers\.1\.mlp\.down_proj": 2},
                 alpha_pattern={"model.layers.0.self_attn.q_proj": 1}), torch.bfloat16, gguf=False),
    Fixture("phi3", "phi3", gguf.MODEL_ARCH.PHI3,
            dict(r=5, lora_alpha=5, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
            torch.float16),
    Fixture("qwen2", "qwen2", gguf.MODEL_ARCH.QWEN2,
            dict(r=2, lora_alpha=4, target_modules=["k_proj", "gate_proj", "lm_head"]), gguf=False),
    Fixture("gemma2", "gemma2", gguf.MODEL_ARCH.GEMMA2, dict(r=4, lora_alpha=4, target_modules=MLP + ["k_proj"])),
    # Norms of queries and keys behind what an adapter changes.
    Fixture("qwen3", "qwen3", gguf.MODEL_ARCH.QWEN3, dict(r=2, lora_alpha=4, target_modules=["q_proj", "k_proj", "down_proj"]),
            gguf=False, prompts=(1, 9)),
    Fixture("gemma3", "gemma3", gguf.MODEL_ARCH.GEMMA3, dict(r=1, lora_alpha=2, target_modules=["q_proj", "v_proj", "up_proj"]),
            torch.bfloat16, gguf=False, prompts=(1, 9)),
    Fixture("mistral", "mistral", gguf.MODEL_ARCH.LLAMA, dict(r=2, lora_alpha=2, target_modules=ATTENTION),
            torch.float16, gguf=False, prompts=(1, 9)),
    Fixture("mixtral", "mixtral", gguf.MODEL_ARCH.LLAMA, dict(r=2, lora_alpha=2, target_modules=ATTENTION),
            gguf=False, prompts=(1, 9)),
    Fixture("mixtral-experts", "mixtral", gguf.MODEL_ARCH.LLAMA,
            dict(r=2, lora_alpha=2, target_modules=[], target_parameters=["mlp.experts.down_proj"]),
            torch.bfloat16, gguf=False, prompts=(1, 9)),
    Fixture("qwen3moe", "qwen3moe", gguf.MODEL_ARCH.QWEN3MOE,
            dict(r=3, lora_alpha=6, target_modules=["q_proj", "o_proj"], alpha_pattern={"experts.down_proj": 3},
                 target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]), gguf=False, prompts=(1, 9)),
    Fixture("qwen3moe-modules", "qwen3moe", gguf.MODEL_ARCH.QWEN3MOE,
            dict(r=2, lora_alpha=3, target_modules=["v_proj"] + MLP), torch.float16, prompts=(1, 9), modules=True),
]


@torch.no_grad()
def logits(model, ids: list[int]) -> torch.Tensor:
    """Next-token logits at every position, `[n, vocab]`."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def continue_greedily(model, prompt: list[int]) -> tuple[list[int], float]:
    """The most likely continuation, and the least lead of a chosen token over the next."""
    ids, margin = list(prompt), float("inf")
    for _ in range(GREEDY):
        top = torch.topk(logits(model, ids)[-1], 2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        ids.append(int(top.indices[0]))
    return ids[len(prompt):], margin


def base_of(fixture: Fixture):
    return hf.AutoModelForCausalLM.from_pretrained(GOLDEN / fixture.base, dtype=torch.float32,
                                                   attn_implementation="eager")


def write_modules(fixture: Fixture, seed: int) -> None:
    """NAME/ with experts as modules: what PEFT saved of a model of transformers 4."""
    path, base = HERE / fixture.name, base_of(fixture)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    sizes = base.config
    hidden, ff, r = sizes.hidden_size, sizes.moe_intermediate_size, fixture.config["r"]
    shapes = {f"mlp.experts.{e}.{name}": (hidden, ff) for e in range(sizes.num_experts) for name in ("gate_proj", "up_proj")}
    shapes |= {f"mlp.experts.{e}.down_proj": (ff, hidden) for e in range(sizes.num_experts)}
    shapes["self_attn.v_proj"] = (hidden, base.model.layers[0].self_attn.v_proj.out_features)
    rng, tensors = torch.Generator().manual_seed(seed), {}
    for layer in range(sizes.num_hidden_layers):
        for module, (inputs, outputs) in shapes.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            for side, shape, std in (("A", (r, inputs), inputs ** -0.5), ("B", (outputs, r), 0.5)):
                tensors[f"{name}.lora_{side}.weight"] = (std * torch.randn(shape, generator=rng)).to(fixture.dtype)
    save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt"})
    config = LoraConfig(task_type="CAUSAL_LM", inference_mode=True, base_model_name_or_path=fixture.base, **fixture.config)
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, default=lambda e: e.value) + "\n")


def adapted(fixture: Fixture, seed: int):
    """The model with an adapter of random numbers, which are rounded to the adapter's type."""
    torch.manual_seed(seed)
    base = base_of(fixture)
    if fixture.modules:
        write_modules(fixture, seed)
        model = PeftModel.from_pretrained(base, HERE / fixture.name, autocast_adapter_dtype=True).eval()
        unset = [n for n, p in model.named_parameters() if "lora_B" in n and not p.any()]
        assert not unset, f"not read by PEFT: {unset}"
        return model
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **fixture.config)).eval()
    rng = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "lora_" in name:
            std = 0.5 if "lora_B" in name else p.shape[1] ** -0.5
            p.data = (std * torch.randn(p.shape, generator=rng)).to(fixture.dtype).float()
    return model


def golden(model, seed: int, prompts: tuple) -> dict[str, np.ndarray] | None:
    """The tensors of NAME.golden; `None` if a choice is nearly a tie or the text monotonous."""
    rng = np.random.default_rng(seed)
    vocab = model.config.vocab_size
    tensors = {}
    for i, n in enumerate(prompts):
        ids = rng.integers(0, vocab - 2, n).tolist()
        more, margin = continue_greedily(model, ids)
        if margin < LEAST_MARGIN or len(set(more)) < 6:
            return None
        tensors[f"prompt.{i}"] = np.array(ids, np.int32)
        tensors[f"logits.{i}"] = logits(model, ids).numpy()
        tensors[f"continuation.{i}"] = np.array(more, np.int32)
    return tensors


def save(fixture: Fixture, model) -> None:
    """NAME/, without what says nothing of it."""
    path = HERE / fixture.name
    shutil.rmtree(path, ignore_errors=True)
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data = p.data.to(fixture.dtype)
    model.save_pretrained(path)
    (path / "README.md").unlink(missing_ok=True)
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = fixture.base
    for targets in ("target_modules", "target_parameters"):
        config[targets] = sorted(config[targets] or [])
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_gguf(fixture: Fixture, config) -> None:
    """NAME.gguf, of the tensors in NAME/."""
    writer = gguf.GGUFWriter(HERE / f"{fixture.name}.gguf", gguf.MODEL_ARCH_NAMES[fixture.arch])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, fixture.config["lora_alpha"])
    names = gguf.get_tensor_name_map(fixture.arch, config.num_hidden_layers)
    heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
    stacks: dict[str, dict[int, np.ndarray]] = {}
    for name, w in load_file(HERE / fixture.name / "adapter_model.safetensors").items():
        module, side, _ = name.removeprefix("base_model.model.").rsplit(".", 2)
        if side == "base_layer":
            continue
        if match := re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)", module):
            new = names.get_name(f"{match[1]}.{match[3]}")
            assert new is not None, f"{module} has no GGUF name"
            stacks.setdefault(f"{new}.weight.{side.lower()}", {})[int(match[2])] = w.float().numpy()
            continue
        new = names.get_name(module)
        assert new is not None, f"{module} has no GGUF name"
        for part, n in heads.items():
            if fixture.arch == gguf.MODEL_ARCH.LLAMA and side == "lora_B" and part in f"{new}.":
                # Rows of a head from halves (transformers) to neighbours (GGUF's llama).
                w = w.reshape(n, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
        writer.add_tensor(f"{new}.weight.{side.lower()}", np.ascontiguousarray(w.float().numpy()))
    for name, experts in stacks.items():
        writer.add_tensor(name, np.stack([experts[e] for e in range(len(experts))]))
    finish(writer)


def write_golden(fixture: Fixture, tensors: dict[str, np.ndarray]) -> None:
    """NAME.golden."""
    writer = gguf.GGUFWriter(HERE / f"{fixture.name}.golden", "golden")
    writer.add_string("golden.model", f"../golden/{fixture.base}.gguf")
    writer.add_string("golden.adapter", f"{fixture.name}.gguf")
    writer.add_uint32("golden.context", 0)
    for name, data in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(data))
    finish(writer)


@torch.no_grad()
def log_probabilities(model) -> np.ndarray:
    """Of each token of MERGED_TEXT but the first, after those before it."""
    of_next = torch.log_softmax(logits(model, MERGED_TEXT)[:-1], -1)
    return of_next[range(len(MERGED_TEXT) - 1), MERGED_TEXT[1:]].numpy()


def write_merged() -> None:
    """merged.gguf, of the adapters beside this script."""
    writer = gguf.GGUFWriter(HERE / "merged.gguf", "golden")
    for fixture in FIXTURES:
        base = base_of(fixture)
        writer.add_tensor(f"{fixture.name}.base", log_probabilities(base))
        merged = PeftModel.from_pretrained(base, HERE / fixture.name).merge_and_unload()
        writer.add_tensor(fixture.name, log_probabilities(merged))
    finish(writer)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    for fixture in FIXTURES:
        if wanted and fixture.name not in wanted:
            continue
        for seed in range(1, 200):
            model = adapted(fixture, seed)
            if tensors := golden(model, seed, fixture.prompts):
                break
        else:
            sys.exit(f"{fixture.name}: no seed without near ties")
        if not fixture.modules:
            save(fixture, model)
        if fixture.gguf:
            write_gguf(fixture, model.config)
        write_golden(fixture, tensors)
        print(f"{fixture.name}: seed {seed}")
    write_merged()


if __name__ == "__main__":
    main()
