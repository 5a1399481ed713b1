"""Trains the built-in model.

    python -m builtin.train --out DIR --steps 2600          # from models/, on one GPU

Writes `weights.0`, `weights.1` (f16), `train.log` and, unless told otherwise,
the answers to the held-out evaluation. The data is generated while the
model trains; nothing is read but tokenizer.json and the evaluation's items.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from . import model as net
from .muon import Muon
from .stream import CONTEXT, SPOKEN, Stream

BLOCK = 128  # attention is skipped in blocks of this many tokens


def document_attention(docs):
    """Causal attention within documents; `docs` `[batch, tokens]` rises along a row."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    def same_document(b, h, q, k):
        return (q >= k) & (docs[b, q] == docs[b, k])

    blocks = docs.unflatten(1, (-1, BLOCK))
    first, last = blocks[..., 0], blocks[..., -1]
    order = torch.arange(first.shape[1], device=docs.device)
    needed = (last[:, None, :] >= first[:, :, None]) & (order[:, None] >= order[None, :])
    count = needed.sum(-1, dtype=torch.int32)
    index = torch.argsort(needed.int(), dim=-1, descending=True, stable=True).int()
    mask = BlockMask.from_kv_blocks(count[:, None], index[:, None], BLOCK_SIZE=BLOCK, mask_mod=same_document)
    return lambda q, k, v: flex_attention(q, k, v, block_mask=mask)


def loss_of(model, tokens, classes, docs, weight, attention):
    """Weighted sum of the next-token losses, and the same over spoken tokens alone."""
    with torch.autocast(tokens.device.type, torch.bfloat16):
        hidden = model(tokens, document_attention(docs) if attention == "flex" else None)
        logits = model.logits(hidden)
    targets = tokens.roll(-1, 1)
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    spoken = classes == SPOKEN
    weights = spoken.float() + weight * (classes == CONTEXT).float()
    return (losses * weights).sum(), (losses * spoken).sum().detach()


def schedule(step, steps, warmup, decay):
    """Warm up, hold, then fall linearly to zero over the last `decay` of the steps."""
    return min((step + 1) / warmup, 1.0, (steps - step) / (steps * decay))


def train(args):
    """The training loop."""
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = net.Config(**json.loads(args.config))
    model = net.Model(config).to(device)
    matrices = [p for p in model.blk.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if all(p is not m for m in matrices)]
    muon = Muon(matrices, args.lr)
    adam = torch.optim.AdamW(rest, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=device == "cuda")
    measure = torch.compile(loss_of, dynamic=False) if args.compile else loss_of
    stream = Stream(args.seed, args.rows, config.context, args.workers)
    out = Path(args.out)
    log = open(out / "train.log", "w", buffering=1)

    def note(line):
        print(line, flush=True)
        print(line, file=log)

    total = sum(p.numel() for p in model.parameters())
    note(f"parameters {total} config {config.to_dict()}")
    note(f"seed {args.seed} steps {args.steps} rows {args.rows} lr {args.lr} adam_lr {args.adam_lr} context weight {args.weight} attention {args.attention}")
    start, seen, window = time.time(), 0, []
    for step, rows in zip(range(args.steps), stream):
        scale = schedule(step, args.steps, args.warmup, args.decay)
        batch = torch.from_numpy(rows).to(device, non_blocking=True).long()
        scored = (batch[:, 1] == SPOKEN).sum()
        norm = scored + args.weight * (batch[:, 1] == CONTEXT).sum()
        spoken = 0.0
        for part in batch.split(args.micro):
            loss, said = measure(model, part[:, 0], part[:, 1], part[:, 2], args.weight, args.attention)
            (loss / norm).backward()
            spoken = spoken + said
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step(scale)
        for group in adam.param_groups:
            group["lr"] = args.adam_lr * scale
        adam.step()
        model.zero_grad(set_to_none=True)
        seen += batch[:, 0].numel()
        window.append(spoken / scored)
        if step % args.every == args.every - 1 or step == args.steps - 1:
            mean = torch.stack(window).mean().item()
            note(f"step {step + 1} loss {mean:.4f} lr {scale:.3f} tokens {seen / 1e6:.0f}M time {time.time() - start:.0f}s")
            window = []
    stream.close()
    net.save(model, out / "weights")
    if args.evaluate:
        from .eval import score
        from .eval.torch_run import evaluate

        model = net.load(out / "weights").to(device)
        for items in (score.ITEMS, score.HANDWRITTEN_DEV, score.HANDWRITTEN):
            for task, (right, asked) in evaluate(model, out / f"answers-{items.name}", items).items():
                note(f"eval {items.stem} {task} {right}/{asked} = {100 * right / asked:.1f}%")


def main():
    """Arguments."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True)
    p.add_argument("--steps", type=int, default=2600)
    p.add_argument("--rows", type=int, default=128, help="rows of a batch, each a context long")
    p.add_argument("--micro", type=int, default=64, help="rows at a time")
    p.add_argument("--lr", type=float, default=0.02)
    p.add_argument("--adam-lr", type=float, default=0.004)
    p.add_argument("--weight", type=float, default=0.1, help="weight of tokens that the model only reads")
    p.add_argument("--warmup", type=int, default=60)
    p.add_argument("--decay", type=float, default=0.5)
    p.add_argument("--workers", type=int, default=14)
    p.add_argument("--every", type=int, default=50)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--config", default="{}", help="JSON of sizes that differ from the default")
    p.add_argument("--attention", choices=["flex", "sdpa"], default="flex")
    p.add_argument("--no-compile", dest="compile", action="store_false")
    p.add_argument("--no-evaluate", dest="evaluate", action="store_false")
    train(p.parse_args())


if __name__ == "__main__":
    main()
