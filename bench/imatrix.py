"""Whether llama.cpp takes `zse imatrix`'s files: `python3 bench/imatrix.py` (see bench/README.md).

The built-in model in F16; an importance matrix by ZSE over its evaluation text; Q4_K_M and IQ4_XS by
llama-quantize with it and without; the perplexity of each by ZSE over the held-out text of parity/. Fails
if llama-quantize refuses the matrix, or makes the same file with it. Results go to bench/results/NAME.md.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import common
import peers

TYPES = ["Q4_K_M", "IQ4_XS"]
TEXT = common.ROOT / "models/builtin/eval/text.txt"
HELD_OUT = common.ROOT / "parity/data/heldout.txt"


def run(*command) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zse", type=Path, help="ZSE; built where none is given")
    parser.add_argument("--peers", type=Path, help="folder of peers; built where none is given")
    parser.add_argument("--cache", type=Path, default=common.CACHE)
    parser.add_argument("--name", default="imatrix", help="of the results")
    args = parser.parse_args()
    zse = common.zse(args.zse)
    folder = args.peers or args.cache / "peers"
    peers.build(folder, ["ll"], {}, ("llama-quantize",))
    quantizer = folder / "ll/llama-quantize"
    lines = [
        "# Importance matrices in llama.cpp",
        "",
        f"- ZSE {common.commit()}; llama.cpp as in llama-cpp-python {peers.LLAMA_CPP_PYTHON}",
    ]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        plain, matrix = scratch / "plain.gguf", scratch / "imatrix.gguf"
        run(zse, "quantize", "builtin", "-o", plain, "--quant", "F16", "--allow-requantize")
        lines.append(f"- `zse imatrix`: {run(zse, 'imatrix', plain, '-f', TEXT, '-o', matrix).strip().rsplit(' in ')[0].split(': ')[-1]}")
        for kind in TYPES:
            made = {}
            for with_matrix in (False, True):
                out = scratch / f"{kind}-{with_matrix}.gguf"
                option = ["--imatrix", matrix] if with_matrix else []
                said = run(quantizer, *option, plain, out, kind)
                if with_matrix:
                    lines += [f"- llama-quantize, {kind}: {line.split(': ', 1)[-1]}" for line in said.splitlines()
                              if re.search("imatrix (entries|datasets)|importance matrix entries", line)]
                found = run(zse, "perplexity", out, "-f", HELD_OUT, "--json")
                made[with_matrix] = out.read_bytes(), float(re.search(r'"perplexity":\s*([0-9.]+)', found)[1])
            if made[False][0] == made[True][0]:
                sys.exit(f"{kind}: llama-quantize makes the same file with the matrix as without")
            rows.append(f"| {kind} | {made[False][1]:.4f} | {made[True][1]:.4f} |")
    lines += ["", "| by llama-quantize | perplexity without | with the matrix |", "|---|---|---|", *rows]
    common.publish(args.name, lines)


if __name__ == "__main__":
    main()
