"""What is measured: the groups of cases, and what each should reach."""

from dataclasses import dataclass, replace

# Types of the dense models: the ratio to the better peer that prefill should reach.
PREFILL = {"q4_0": 1.25, "q4_k_m": 1.25, "q8_0": 1.25, "q6_k": 1.15, "f16": 1.1, "bf16": 1.1}
# Types that are measured while decoding only, of 4 bits and wider, and narrower ones.
WIDE = ("q4_1", "q5_0", "q5_1", "q5_k", "iq4_nl")
NARROW = ("iq4_xs", "iq3_s", "iq3_xxs", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_s", "q3_k", "q2_k")


@dataclass(frozen=True)
class Case:
    """One test of one model. Either `prompt` or `generate` tokens, or neither: the time from the
    start of the process to its first token."""

    group: str
    shape: str
    quant: str
    prompt: int = 0
    generate: int = 0
    # Tokens that each sequence has before the test.
    depth: int = 0
    # Sequences that generate together.
    seqs: int = 1
    kv: str = "f16"
    # An instruction set that all engines are held to; empty: the best there is.
    isa: str = ""
    # The peer that counts; empty: the better one.
    against: str = ""
    # The ratio to that peer that is asked for, and the one where that peer reads less than
    # 85% of what the machine can.
    target: float = 1.0
    target_where_slow: float | None = None
    # Rounds, where they should be fewer than asked for.
    rounds: int | None = None

    @property
    def model(self) -> str:
        return f"{self.shape}-{self.quant}"

    @property
    def test(self) -> str:
        if not self.prompt and not self.generate:
            return "start"
        name = f"pp{self.prompt}" if self.prompt else f"tg{self.generate}"
        name += f" @ d{self.depth}" if self.depth else ""
        name += f" b{self.seqs}" if self.seqs > 1 else ""
        name += f" kv {self.kv}" if self.kv != "f16" else ""
        return name + (f" {self.isa}" if self.isa else "")

    @property
    def unit(self) -> str:
        return "t/s" if self.prompt or self.generate else "s"

    def smaller(self, by: int) -> "Case":
        """The same with fewer tokens, for trials."""
        few = {n: max(getattr(self, n) // by, 1) for n in ("prompt", "generate", "depth")}
        return replace(self, **{n: few[n] for n in few if getattr(self, n)})


def _cases() -> list[Case]:
    cases = []
    dense = [(shape, quant) for shape in ("tinyllama", "llama1") for quant in PREFILL]
    cases += [Case("prefill", s, q, prompt=512, target=PREFILL[q]) for s, q in dense]
    decode = dense + [("tinyllama", quant) for quant in WIDE]
    cases += [Case("decode", s, q, generate=128, target_where_slow=1.1) for s, q in decode]
    cases += [Case("narrow", "tinyllama", q, generate=128) for q in NARROW]
    moe = Case("moe", "moe-small", "q4_k_m")
    cases += [replace(moe, prompt=512, target=1.2), replace(moe, generate=128)]
    for quant in ("q4_k_m", "q8_0"):
        avx2 = Case("avx2", "tinyllama", quant, isa="avx2")
        cases += [replace(avx2, prompt=512, target=1.1), replace(avx2, generate=128)]
    for depth, rounds in ((4096, None), (16384, 1)):
        deep = Case("depth", "llama1", "q4_k_m", generate=32, depth=depth, target=1.2)
        cases += [replace(deep, kv=kv, rounds=rounds) for kv in ("f16", "q8_0")]
    batch = Case("batch", "tinyllama", "q4_k_m", generate=32, depth=16, target=1.3)
    cases += [replace(batch, seqs=seqs) for seqs in (8, 32)]
    start = [("tinyllama", "q4_k_m"), ("tinyllama", "q8_0"), ("qwen7", "q4_k_m")]
    cases += [Case("start", shape, quant, against="llama.cpp") for shape, quant in start]
    large = Case("large", "qwen7", "q4_k_m")
    cases += [replace(large, prompt=512, target=1.25)]
    cases += [replace(large, generate=64, target_where_slow=1.1)]
    return cases


CASES = _cases()
GROUPS = list(dict.fromkeys(case.group for case in CASES))
