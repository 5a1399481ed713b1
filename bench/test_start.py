"""Tests of what is said of starts: `python3 -m unittest discover -s bench`."""

import unittest

from start import LLAMA, PLAIN, ZSE, Run, Shape, table


def shape(zse: float, llama: float, plain: float, resident: float = 1e9, others: float = 0.0) -> Shape:
    """Two rounds, the second on a machine that is half as fast at everything. Ends take a sixth of ZSE's time."""
    first = zse * 5 / 6
    runs = {
        ZSE: [Run(zse, first, int(resident), others), Run(2 * zse, 2 * first, int(resident / 2), 0.0)],
        LLAMA: [Run(llama, llama, 10**9, 0.0), Run(2 * llama, 2 * llama, 10**9, 0.0)],
        PLAIN: [Run(plain, plain, 10**9, 0.0), Run(2 * plain, 2 * plain, 10**9, 0.0)],
    }
    return Shape("one", 10**9, 6e8, 10**7, runs, [10e9, 5e9])


class Starts(unittest.TestCase):
    def test_rounds_are_paired_so_that_a_slow_machine_slows_all(self):
        measured = shape(0.12, 0.66, 0.132)
        self.assertAlmostEqual(measured.ratio(LLAMA), 5.5)
        self.assertAlmostEqual(measured.ratio(PLAIN), 1.1)
        # 0.06 s of each 0.10 s to the token are reading; of the second round's 0.20 s, 0.12 s.
        self.assertAlmostEqual(measured.beside(), 0.06)
        text = "\n".join(table([measured]))
        self.assertIn("one: 0.06 seconds beside reading (at most 0.10 wanted: met)", text)
        self.assertIn("one: 5.50 times as fast as llama.cpp (at least 5.00 wanted: met)", text)
        self.assertIn("one: 1000 MB resident (at most 1074 wanted: met)", text)
        self.assertNotIn("missed", text)

    def test_what_is_missed_is_said(self):
        text = "\n".join(table([shape(0.24, 0.8, 0.19, resident=1.1e9)]))
        self.assertEqual(text.count("missed"), 4)

    def test_without_peers_there_are_no_ratios(self):
        alone = shape(0.1, 1.0, 1.0)
        alone.runs = {ZSE: alone.runs[ZSE]}
        text = "\n".join(table([alone]))
        self.assertNotIn("llama.cpp", text)
        self.assertEqual(text.count("met"), 2)

    def test_rounds_that_others_disturbed_are_marked(self):
        self.assertIn("20% (!)", table([shape(0.1, 1.0, 0.2, others=0.2)])[2])


if __name__ == "__main__":
    unittest.main()
