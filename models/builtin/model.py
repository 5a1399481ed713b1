"""The network: a Llama decoder, written so that GGUF can hold it as it is.

Rotary pairs are neighbours (2i, 2i+1), as GGUF's `llama` architecture wants,
so exporting needs no permutation. Embedding and output share one matrix.
"""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Config:
    """Sizes of the model. All rows are multiples of 256, as every quantization wants."""

    vocab: int = 4096
    dim: int = 512
    layers: int = 6
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 768
    context: int = 2048
    rope_theta: float = 10000.0
    eps: float = 1e-5

    def to_dict(self):
        """As plain values, for a checkpoint."""
        return asdict(self)


def rope_tables(c, device):
    """cos and sin, `[context, head_dim / 2]` in f32."""
    inverse = c.rope_theta ** (-torch.arange(0, c.head_dim, 2, device=device, dtype=torch.float32) / c.head_dim)
    angles = torch.arange(c.context, device=device, dtype=torch.float32)[:, None] * inverse
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Rotates neighbouring pairs of `x` `[batch, heads, tokens, head_dim]`."""
    pairs = x.float().unflatten(-1, (-1, 2))
    a, b = pairs[..., 0], pairs[..., 1]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


class Block(nn.Module):
    """One layer: attention and gated MLP, each behind a norm."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.attn_norm = nn.RMSNorm(c.dim, eps=c.eps)
        self.attn_q = nn.Linear(c.dim, c.heads * c.head_dim, bias=False)
        self.attn_k = nn.Linear(c.dim, c.kv_heads * c.head_dim, bias=False)
        self.attn_v = nn.Linear(c.dim, c.kv_heads * c.head_dim, bias=False)
        self.attn_output = nn.Linear(c.heads * c.head_dim, c.dim, bias=False)
        self.ffn_norm = nn.RMSNorm(c.dim, eps=c.eps)
        self.ffn_gate = nn.Linear(c.dim, c.ffn, bias=False)
        self.ffn_up = nn.Linear(c.dim, c.ffn, bias=False)
        self.ffn_down = nn.Linear(c.ffn, c.dim, bias=False)

    def forward(self, x, cos, sin, attend):
        """`x` `[batch, tokens, dim]`; `attend(q, k, v)` is the attention itself."""
        c = self.c
        h = self.attn_norm(x)
        q = self.attn_q(h).unflatten(-1, (c.heads, c.head_dim)).transpose(1, 2)
        k = self.attn_k(h).unflatten(-1, (c.kv_heads, c.head_dim)).transpose(1, 2)
        v = self.attn_v(h).unflatten(-1, (c.kv_heads, c.head_dim)).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        group = c.heads // c.kv_heads
        a = attend(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1))
        x = x + self.attn_output(a.transpose(1, 2).flatten(-2))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Model(nn.Module):
    """The whole decoder."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.token_embd = nn.Embedding(c.vocab, c.dim)
        self.blk = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.output_norm = nn.RMSNorm(c.dim, eps=c.eps)
        for p in self.parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02 if p.shape[0] == c.vocab else p.shape[1] ** -0.5)
        for block in self.blk:
            for last in (block.attn_output, block.ffn_down):
                nn.init.normal_(last.weight, std=(2 * c.layers * last.weight.shape[1]) ** -0.5)

    def forward(self, tokens, attend=None):
        """Hidden states `[batch, tokens, dim]` after the last norm."""
        attend = attend or causal
        cos, sin = rope_tables(self.c, tokens.device)
        cos, sin = cos[: tokens.shape[1]], sin[: tokens.shape[1]]
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, cos, sin, attend)
        return self.output_norm(x)

    def logits(self, hidden):
        """Scores of the next token `[..., vocab]`."""
        return F.linear(hidden, self.token_embd.weight)


def causal(q, k, v):
    """Plain causal attention."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@torch.inference_mode()
def generate(model, prompts, stop, limit=400):
    """Greedy continuations of several prompts at once (lists of ids), without `stop`.

    No cache: meant for a GPU, where recomputing a short batch costs little.
    """
    device = model.token_embd.weight.device
    rows = [list(p) for p in prompts]
    live = list(range(len(rows)))
    while live:
        longest = max(len(rows[i]) for i in live)
        if longest >= model.c.context:
            break
        width = min(-(-longest // 64) * 64, model.c.context)
        batch = torch.zeros(len(live), width, dtype=torch.long)
        for j, i in enumerate(live):
            batch[j, : len(rows[i])] = torch.tensor(rows[i])
        last = torch.tensor([len(rows[i]) - 1 for i in live], device=device)
        hidden = model(batch.to(device))[torch.arange(len(live), device=device), last]
        for i, token in zip(list(live), model.logits(hidden).float().argmax(-1).tolist()):
            if token == stop or len(rows[i]) - len(prompts[i]) >= limit:
                live.remove(i)
            else:
                rows[i].append(token)
    return [row[len(p) :] for row, p in zip(rows, prompts)]


def save(model, path, parts=2):
    """Writes the weights in f16 as `path.0`, `path.1`, ... (files of a limited size)."""
    state = {k: v.detach().half().cpu() for k, v in model.state_dict().items()}
    names = list(state)
    for part in range(parts):
        torch.save({"config": model.c.to_dict(), "state": {n: state[n] for n in names[part::parts]}}, f"{path}.{part}")


def load(path):
    """Reads what `save` wrote, as an f32 model."""
    state, part = {}, 0
    while True:
        try:
            saved = torch.load(f"{path}.{part}", weights_only=True)
        except FileNotFoundError:
            break
        state.update(saved["state"])
        part += 1
    model = Model(Config(**saved["config"]))
    model.load_state_dict({k: v.float() for k, v in state.items()})
    return model.eval()
