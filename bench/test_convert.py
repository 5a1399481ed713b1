"""Tests of what is said of conversions: `python3 -m unittest discover -s bench`."""

import unittest

from convert import LLAMA, LOSSLESS, ZSE, Bounds, Run, encoder_seconds, report


def run(seconds: float, memory: float = 1e6) -> Run:
    return Run(seconds, 2 * seconds, int(memory), 0.0)


def page(zse: float, llama: float, lossless: float, encoder: float, disk: float, memory: float = 1e6) -> str:
    """Two rounds, the second on a machine that is half as fast at everything."""
    runs = {
        ZSE: [run(zse, memory), run(2 * zse)],
        LLAMA: [run(llama), run(2 * llama)],
        LOSSLESS: [run(lossless), run(2 * lossless)],
    }
    bounds = [Bounds(encoder, disk), Bounds(2 * encoder, disk / 2)]
    return "\n".join(report(["- facts"], 10**9, runs, bounds, {ZSE: 3 * 10**8, LLAMA: 3 * 10**8, LOSSLESS: 10**9}))


class Conversions(unittest.TestCase):
    def test_shares_are_of_rounds(self):
        text = page(zse=10.0, llama=16.0, lossless=4.0, encoder=8.5, disk=300e6)
        self.assertIn("1.60 times as fast as llama.cpp (at least 1.5 wanted: met)", text)
        self.assertIn("85% of what the encoder alone does", text)
        # 1 GB in 4 s where dd writes 300 MB a second.
        self.assertIn("83% of the disk's write rate", text)
        self.assertNotIn("missed", text)

    def test_what_is_missed_is_said(self):
        text = page(zse=10.0, llama=14.0, lossless=5.0, encoder=7.0, disk=300e6, memory=3e9)
        self.assertEqual(text.count("missed"), 4)

    def test_the_encoder_is_asked_of_each_type(self):
        rates = {"Q4_K": 100.0, "Q6_K": 200.0}
        self.assertEqual(encoder_seconds({"Q4_K": 1000, "Q6_K": 400}, rates), 12.0)


if __name__ == "__main__":
    unittest.main()
