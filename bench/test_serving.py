"""Tests of the comparison of servers: `python3 -m unittest discover -s bench`."""

import unittest

from serving import Row, Work, bodies, table


def row(engine: str, number: int, speed: float, others: float = 0.0) -> Row:
    return Row("builtin", 4, number, engine, speed, 10.0, 20.0, 3.0, 4.0, 100.0, others)


class Serving(unittest.TestCase):
    def test_the_ratio_is_of_rounds_and_its_median_counts(self):
        # The machine is twice as fast in the last round, for both.
        zse = [row("zse", i, v) for i, v in enumerate((130.0, 120.0, 260.0))]
        llama = [row("llama-server", i, v) for i, v in enumerate((100.0, 100.0, 200.0))]
        line = table(zse + llama)[-1]
        self.assertIn("| 1.30 | 1.2 met |", line)
        slow = table(llama + [row("zse", i, 110.0) for i in range(3)])[-1]
        self.assertIn("| 1.10 | 1.2 missed |", slow)

    def test_rounds_that_others_disturbed_are_marked(self):
        rows = [row("zse", 0, 1.0, 0.2), row("llama-server", 0, 1.0)]
        self.assertIn("20% (!)", table(rows)[-1])

    def test_rounds_ask_for_other_things_and_engines_for_the_same(self):
        work = Work("builtin", 10, 5, 2)
        self.assertEqual(bodies(work, 3, 1), bodies(work, 3, 1))
        self.assertNotEqual(bodies(work, 3, 1), bodies(work, 3, 2))
        self.assertEqual(len(bodies(work, 3, 1)), 6)


if __name__ == "__main__":
    unittest.main()
