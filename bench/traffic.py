"""Requests as many users send them: at random times, of long-tailed lengths."""

import math
import random
from dataclasses import dataclass

from served import Answer

WORDS = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work number night "
    "point home water room mother area money story fact month lot right study book eye job word"
).split()

SYSTEM = "You are a helpful assistant. Answer in a few short sentences, and say so if you do not know."


@dataclass(frozen=True)
class Limits:
    """What a user finds fast, in seconds."""

    first: float
    between: float

    def hold(self, answer: Answer) -> bool:
        if answer.status != 200 or not answer.complete or not answer.tokens:
            return False
        return answer.first() <= self.first and answer.between() <= self.between


def arrivals(rate: float, seconds: float, rng: random.Random) -> list[float]:
    """Times from 0 to `seconds` of a Poisson process of `rate` a second."""
    times, now = [], rng.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += rng.expovariate(rate)
    return times


def long_tailed(median: float, sigma: float, most: int, rng: random.Random) -> int:
    """A log-normal length, at least 1."""
    return max(1, min(most, round(median * math.exp(rng.gauss(0.0, sigma)))))


def completion(rng: random.Random, scale: float = 1.0) -> dict:
    """The body of a request for a stream. A third of them share their beginning."""
    prompt = long_tailed(60 * scale, 0.9, int(400 * scale), rng)
    text = " ".join(rng.choice(WORDS) for _ in range(prompt))
    if rng.random() < 1 / 3:
        text = f"{SYSTEM} {text}"
    return {
        "prompt": text,
        "max_tokens": long_tailed(40 * scale, 0.8, int(300 * scale), rng),
        "ignore_eos": True,
        "temperature": 0.8,
        "seed": rng.randrange(1 << 31),
        "stream": True,
    }


def percentile(values: list[float], share: float) -> float:
    """The least value that `share` of them do not exceed; NaN where there is none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def growth(samples: list[tuple[float, float]]) -> float:
    """By how much the line that fits samples of (time, value) best rises from the first to the last."""
    n = len(samples)
    mean_t = sum(t for t, _ in samples) / n
    mean_v = sum(v for _, v in samples) / n
    spread = sum((t - mean_t) ** 2 for t, _ in samples)
    if spread == 0.0:
        return 0.0
    slope = sum((t - mean_t) * (v - mean_v) for t, v in samples) / spread
    return slope * (samples[-1][0] - samples[0][0])
