"""The memory of `zse convert` on models larger than memory: `python3 bench/convert_memory.py` (see bench/README.md).

Directories of safetensors with the tensors of real models in BF16, all zeros in files with holes: they take no
room on the disk, but are mapped, read and encoded like others. Small files take less than they could, so what
is measured is the most memory of the process, with the pages of the files that are mapped and without them. A
conversion ends when it is whole or when it has written `--most` bytes. Results go to bench/results/NAME.md.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import common
import machine

MOST_MEMORY = 2e9
LAYERS_OF_SHARD = 4
TOKENIZER = common.ROOT / "models/builtin/tokenizer.json"


@dataclass
class Shape:
    """A model's tensors."""

    title: str
    config: dict
    quant: str

    def tensors(self) -> list[list[tuple[str, list[int]]]]:
        """Names and shapes, shard by shard."""
        c = self.config
        d, heads, kv, vocab = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["vocab_size"]
        head = c.get("head_dim", d // heads)
        layers = [self._layer(f"model.layers.{l}", d, heads * head, kv * head, head) for l in range(c["num_hidden_layers"])]
        shards = [sum(layers[i : i + LAYERS_OF_SHARD], []) for i in range(0, len(layers), LAYERS_OF_SHARD)]
        table = [vocab, d]
        return [[("model.embed_tokens", table)], *shards, [("model.norm", [d]), ("lm_head", table)]]

    def _layer(self, name: str, d: int, q: int, kv: int, head: int) -> list[tuple[str, list[int]]]:
        c, attention = self.config, f"{name}.self_attn"
        tensors = [(f"{name}.input_layernorm", [d]), (f"{name}.post_attention_layernorm", [d])]
        shapes = {"q_proj": [q, d], "k_proj": [kv, d], "v_proj": [kv, d], "o_proj": [d, q]}
        tensors += [(f"{attention}.{part}", shape) for part, shape in shapes.items()]
        if c["model_type"] == "qwen2":
            tensors += [(f"{attention}.{part}.bias", shapes[part][:1]) for part in ("q_proj", "k_proj", "v_proj")]
        if c["model_type"] != "qwen3_moe":
            return tensors + _mlp(f"{name}.mlp", c["intermediate_size"], d)
        tensors += [(f"{attention}.{part}", [head]) for part in ("q_norm", "k_norm")]
        tensors.append((f"{name}.mlp.gate", [c["num_experts"], d]))
        for expert in range(c["num_experts"]):
            tensors += _mlp(f"{name}.mlp.experts.{expert}", c["moe_intermediate_size"], d)
        return tensors


def _mlp(name: str, ff: int, d: int) -> list[tuple[str, list[int]]]:
    return [(f"{name}.gate_proj", [ff, d]), (f"{name}.up_proj", [ff, d]), (f"{name}.down_proj", [d, ff])]


def config(model_type: str, layers: int, d: int, heads: int, kv: int, ff: int, vocab: int, **more) -> dict:
    return dict(model_type=model_type, num_hidden_layers=layers, hidden_size=d, num_attention_heads=heads,
                num_key_value_heads=kv, intermediate_size=ff, vocab_size=vocab, rms_norm_eps=1e-6, rope_theta=1e6,
                hidden_act="silu", max_position_embeddings=32768, tie_word_embeddings=False, torch_dtype="bfloat16",
                bos_token_id=0, eos_token_id=2, **more)


MIXTURE = dict(head_dim=128, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True)
SHAPES = [
    # Rows of queries and keys change their order, so these tensors are made.
    Shape("Llama 2 7B", config("llama", 32, 4096, 32, 32, 11008, 32000), "q4_k_m"),
    Shape("tensors of Qwen2.5-72B, 8 of 80 layers", config("qwen2", 8, 8192, 64, 8, 29568, 152064), "q4_k_m"),
    # Experts are stacked.
    Shape("Qwen3-30B-A3B", config("qwen3_moe", 48, 2048, 32, 4, 6144, 151936, **MIXTURE), "q2_k"),
]


def write(shape: Shape, folder: Path) -> int:
    """Makes the directory; says the bytes of its weights."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(shape.config))
    tokenizer = json.loads(TOKENIZER.read_text())
    tokens = tokenizer["model"]["vocab"]
    tokens |= {f"<{id}>": id for id in range(max(tokens.values()) + 1, shape.config["vocab_size"])}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    places, total = {}, 0
    for number, tensors in enumerate(shape.tensors()):
        file, header, at = f"model-{number:05}.safetensors", {}, 0
        for name, size in tensors:
            name = name if name.endswith(".bias") else f"{name}.weight"
            end = at + 2 * size[0] * (size[1] if len(size) > 1 else 1)
            header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [at, end]}
            places[name], at = file, end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            out.truncate(8 + len(text) + at)
        total += at
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


@dataclass
class Run:
    """A conversion, or its beginning."""

    # The most bytes that the process had, and those of them that were of no file.
    resident: int = 0
    anonymous: int = 0
    written: int = 0
    is_whole: bool = False


def run(command: list[str], out: Path, most: int) -> Run:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    partial, result = out.with_name(out.name + ".partial"), Run()
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        fields = {line.split()[0]: int(line.split()[1]) << 10 for line in lines if line.endswith("kB")}
        result.resident = max(result.resident, fields.get("VmHWM:", 0))
        result.anonymous = max(result.anonymous, fields.get("RssAnon:", 0))
        if partial.exists():
            result.written = partial.stat().st_blocks * 512
        if result.written > most:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.02)
    _, errors = process.communicate()
    result.is_whole = out.exists()
    if not result.is_whole and result.written <= most:
        sys.exit(f"{' '.join(command)}: {errors.decode()}")
    if result.is_whole:
        result.written = out.stat().st_size
    for path in out.parent.glob(f"{out.name}*"):
        path.unlink()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zse", type=Path, help="ZSE; built where none is given")
    parser.add_argument("--cache", type=Path, default=common.CACHE, help="for what is made")
    parser.add_argument("--most", type=float, default=2e9, help="bytes to be written of a model")
    parser.add_argument("--whole", type=int, default=1, help="of how many models all is written")
    parser.add_argument("--name", default="convert-memory", help="of the results")
    args = parser.parse_args()
    zse = common.zse(args.zse)
    lines = ["# Memory of conversions", "", f"- {machine.cpu_name()}, {machine.memory_gib():.0f} GiB; ZSE {common.commit()}"]
    lines += ["- Safetensors in BF16, `--target cpu`; zeros in files with holes", ""]
    lines += ["| model | weights | to | written | most memory | of it not of files |", "|---|---:|---|---:|---:|---:|"]
    worst = 0
    for number, shape in enumerate(SHAPES):
        folder = args.cache / "zeros"
        size = write(shape, folder)
        out = args.cache / "zeros.zse"
        command = [zse, "convert", folder, "-o", out, "--quant", shape.quant, "--target", "cpu"]
        got = run(list(map(str, command)), out, int(1e15 if number < args.whole else args.most))
        shutil.rmtree(folder)
        worst = max(worst, got.resident)
        part = "all, " if got.is_whole else "the first "
        lines.append(
            f"| {shape.title} | {size / 1e9:.1f} GB | {shape.quant.upper()} | {part}{got.written / 1e9:.1f} GB "
            f"| {got.resident / 1e6:.0f} MB | {got.anonymous / 1e6:.0f} MB |"
        )
        print(lines[-1], file=sys.stderr)
    lines += ["", f"At most {worst / 1e6:.0f} MB, mapped files included ({MOST_MEMORY / 1e6:.0f} MB wanted)."]
    common.publish(args.name, lines)
    sys.exit(worst > MOST_MEMORY)


if __name__ == "__main__":
    main()
