"""Tests of what load is made of: `python3 -m unittest discover -s bench`."""

import math
import random
import unittest

from served import Answer
from traffic import Limits, arrivals, completion, growth, long_tailed, percentile


class Traffic(unittest.TestCase):
    def test_arrivals_are_as_many_as_the_rate_says_and_as_uneven_as_chance(self):
        times = arrivals(50.0, 400.0, random.Random(1))
        self.assertEqual(times, sorted(times))
        self.assertLess(abs(len(times) - 20_000), 600)
        gaps = [b - a for a, b in zip(times, times[1:])]
        mean = sum(gaps) / len(gaps)
        deviation = math.sqrt(sum((g - mean) ** 2 for g in gaps) / len(gaps))
        self.assertAlmostEqual(deviation / mean, 1.0, delta=0.05)

    def test_lengths_have_a_long_tail_and_an_end(self):
        rng = random.Random(2)
        lengths = [long_tailed(40, 0.8, 300, rng) for _ in range(20_000)]
        self.assertAlmostEqual(percentile(lengths, 0.5), 40, delta=2)
        self.assertGreater(percentile(lengths, 0.99), 200)
        self.assertLessEqual(max(lengths), 300)
        self.assertGreaterEqual(min(lengths), 1)

    def test_the_same_seed_asks_the_same(self):
        self.assertEqual(completion(random.Random(3)), completion(random.Random(3)))

    def test_percentiles_are_values_that_were_measured(self):
        self.assertEqual(percentile([3.0, 1.0, 2.0], 0.5), 2.0)
        self.assertEqual(percentile([3.0, 1.0, 2.0], 0.99), 3.0)
        self.assertTrue(math.isnan(percentile([], 0.5)))

    def test_growth_is_that_of_the_trend(self):
        self.assertAlmostEqual(growth([(0, 5), (1, 7), (2, 9)]), 4)
        self.assertAlmostEqual(growth([(t, 100 + t % 2) for t in range(1001)]), 0, delta=0.01)
        self.assertEqual(growth([(1, 5), (1, 9)]), 0.0)

    def test_who_was_refused_or_cut_off_was_not_served_in_time(self):
        limits = Limits(first=1.0, between=0.1)
        fast = Answer(status=200, start=0.0, tokens=[0.5, 0.6], complete=True)
        self.assertTrue(limits.hold(fast))
        for wrong in (
            Answer(status=429, complete=True),
            Answer(status=200, tokens=[0.5, 0.6]),
            Answer(status=200, tokens=[1.5, 1.6], complete=True),
            Answer(status=200, tokens=[0.5, 0.8], complete=True),
        ):
            self.assertFalse(limits.hold(wrong))


if __name__ == "__main__":
    unittest.main()
