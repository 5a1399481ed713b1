#!/usr/bin/env python3
"""Writes golden.json: what llama.cpp's samplers do to a few rows of logits.

    python make_golden.py path/to/libllama.so > golden.json

Samplers are called through llama.cpp's C API. DRY has no constructor there that takes token ids
as breakers, so its cases come from the quadratic definition below.
"""
import ctypes as c
import json
import math
import random
import sys


class TokenData(c.Structure):
    _fields_ = [("id", c.c_int32), ("logit", c.c_float), ("p", c.c_float)]


class TokenDataArray(c.Structure):
    _fields_ = [
        ("data", c.POINTER(TokenData)),
        ("size", c.c_size_t),
        ("selected", c.c_int64),
        ("sorted", c.c_bool),
    ]


lib = c.CDLL(sys.argv[1])


def sampler(name, types, *args):
    init = getattr(lib, f"llama_sampler_init_{name}")
    init.argtypes, init.restype = types, c.c_void_p
    return c.c_void_p(init(*args))


def apply(s, logits):
    """Candidates after `s`, and the one that it selected."""
    data = (TokenData * len(logits))(*[TokenData(i, l, 0.0) for i, l in enumerate(logits)])
    array = TokenDataArray(data, len(logits), -1, False)
    lib.llama_sampler_apply.argtypes = [c.c_void_p, c.POINTER(TokenDataArray)]
    lib.llama_sampler_apply(s, c.byref(array))
    out = [(array.data[i].id, array.data[i].logit) for i in range(array.size)]
    return out, out[array.selected][0] if array.selected >= 0 else None


def f32(x):
    return c.c_float(x).value


def dry(logits, history, multiplier, base, allowed_length, last_n, breakers):
    """By definition, in quadratic time (github.com/oobabooga/text-generation-webui/pull/5677)."""
    history = history[-last_n:]
    limit = next((i for i, t in enumerate(reversed(history)) if t in breakers), len(history))
    longest = {}
    for end in range(1, len(history)):
        n = 0
        while n < min(end, limit) and history[end - 1 - n] == history[-1 - n]:
            n += 1
        token = history[end]
        if n >= allowed_length and token not in breakers:
            longest[token] = max(longest.get(token, 0), n)
    out = list(logits)
    for token, n in longest.items():
        out[token] -= multiplier * base ** (n - allowed_length)
    return out


def main():
    rng = random.Random(20240607)
    rows = [
        [rng.gauss(0, 3) for _ in range(60)],
        [rng.gauss(0, 1) for _ in range(300)],
        [-1.3 * math.log(i + 1) + rng.gauss(0, 0.3) for i in range(250)],
        [10.0] + [rng.gauss(-3, 1) for _ in range(40)],
    ]
    rows = [[f32(round(x, 4)) for x in row] for row in rows]
    for row in rows:
        rng.shuffle(row)
    cases = []

    def truncation(stage, row, s, **args):
        kept, _ = apply(s, rows[row])
        cases.append(dict(stage=stage, row=row, args=args, kept=sorted(i for i, _ in kept)))

    for row, logits in enumerate(rows):
        for k in (1, 5, 40):
            truncation("top_k", row, sampler("top_k", [c.c_int32], k), k=k)
        pf = [c.c_float, c.c_size_t]
        for p in (0.1, 0.5, 0.9, 0.95, 0.999):
            truncation("top_p", row, sampler("top_p", pf, p, 1), p=p)
        for p in (0.001, 0.05, 0.3, 1.0):
            truncation("min_p", row, sampler("min_p", pf, p, 1), p=p)
        for p in (0.2, 0.6, 0.95):
            truncation("typical_p", row, sampler("typical", pf, p, 1), p=p)
        for t in (0.01, 0.05, 0.1, 0.3):
            s = sampler("xtc", [c.c_float, c.c_float, c.c_size_t, c.c_uint32], 1.0, t, 1, 1)
            truncation("xtc", row, s, threshold=t)

        vocab = len(logits)
        for last_n, repeat, frequency, presence in (
            (64, 1.1, 0.0, 0.0),
            (16, 1.3, 0.2, 0.4),
            (8, 1.0, 0.7, -0.3),
        ):
            history = [rng.randrange(vocab) if rng.random() < 0.5 else rng.randrange(4) for _ in range(40)]
            s = sampler("penalties", [c.c_int32, c.c_int32, c.c_float, c.c_float, c.c_float],
                        vocab, last_n, repeat, frequency, presence)
            lib.llama_sampler_accept.argtypes = [c.c_void_p, c.c_int32]
            for t in history:
                lib.llama_sampler_accept(s, t)
            out, _ = apply(s, logits)
            cases.append(dict(
                stage="penalties", row=row, logits=[l for _, l in sorted(out)],
                args=dict(last_n=last_n, repeat=repeat, frequency=frequency, presence=presence,
                          history=history)))

        for allowed_length, last_n, breakers in ((1, 200, []), (2, 200, [3]), (3, 50, [0, 7])):
            # Few distinct tokens, and an ending that was said before.
            history = [rng.randrange(5) for _ in range(60)]
            history += history[10:18]
            args = dict(multiplier=0.8, base=1.75, allowed_length=allowed_length, last_n=last_n,
                        breakers=breakers)
            cases.append(dict(stage="dry", row=row, args=dict(history=history, **args),
                              logits=dry(logits, history, **args)))

        for version in (1, 2):
            for tau, eta, warm in ((5.0, 0.1, 0), (2.0, 0.1, 3), (3.0, 0.3, 10)):
                if version == 1:
                    s = sampler("mirostat", [c.c_int32, c.c_uint32, c.c_float, c.c_float, c.c_int32],
                                vocab, 7, tau, eta, 100)
                else:
                    s = sampler("mirostat_v2", [c.c_uint32, c.c_float, c.c_float], 7, tau, eta)
                mu = 2 * tau
                for _ in range(warm + 1):
                    before = mu
                    out, token = apply(s, logits)
                    top = max(l for _, l in out)
                    total = sum(math.exp(l - top) for _, l in out)
                    logit = dict(out)[token]
                    mu = before - eta * (-(logit - top - math.log(total)) / math.log(2) - tau)
                # llama.cpp keeps mu to itself; what it keeps next shows that ours is the same.
                cases.append(dict(
                    stage="mirostat", row=row, kept=sorted(i for i, _ in out), mu=mu,
                    args=dict(version=version, tau=tau, eta=eta, mu=before, token=token)))

    def short(x):
        if isinstance(x, float):
            return float(f"{x:.7g}")
        if isinstance(x, list):
            return [short(v) for v in x]
        return {k: short(v) for k, v in x.items()} if isinstance(x, dict) else x

    json.dump(short(dict(rows=rows, cases=cases)), sys.stdout, separators=(",", ":"))
    print()


main()
