"""What gpu-check's scripts decide: `python3 -m unittest discover crates/zse-cuda/check`."""

import types
import unittest

import answers
import sanitize
import speeds


class Answers(unittest.TestCase):
    """The verdict on two sets of answers."""

    def verdict(self, texts):
        items = [{"id": str(i), "want": "a"} for i in range(100)]
        score = types.SimpleNamespace(right=lambda item, text: text == item["want"])
        cpu = ([[1]] * 100, ["a"] * 100)
        gpu = ([[1] if text == "a" else [2] for text in texts], texts)
        return answers.verdict(score, items, cpu, gpu)

    def test_a_few_may_differ(self):
        self.assertTrue(self.verdict(["a"] * 100)[1])
        self.assertTrue(self.verdict(["b"] + ["a"] * 99)[1])
        lines, good = self.verdict(["b"] * 2 + ["a"] * 98)
        self.assertFalse(good, "two of a hundred are wrong")
        self.assertIn("other tokens: 0 1", lines)

    def test_missing_answers_fail(self):
        self.assertFalse(self.verdict(["a"] * 99)[1])


class Speeds(unittest.TestCase):
    """The verdict on speeds."""

    KNOWN = [
        {"gpu": "G", "model": "m:q", "test": "tg128", "tokens_per_s": "100", "allowed_loss": "0.05"},
        {"gpu": "G", "model": "m:q", "test": "pp512", "tokens_per_s": "1000", "allowed_loss": "0.03"},
    ]

    def lost(self, tg, pp, gpu="G"):
        rates = {("m:q", "tg128"): tg, ("m:q", "pp512"): pp}
        return speeds.compare(self.KNOWN, rates, gpu)[1]

    def test_each_figure_has_its_own_loss(self):
        self.assertEqual(self.lost(95.1, 970.1), [])
        self.assertEqual(self.lost(94.9, 970.1), ["m:q tg128"])
        self.assertEqual(self.lost(200.0, 969.0), ["m:q pp512"])
        self.assertEqual(speeds.compare(self.KNOWN, {}, "G")[1], ["m:q tg128", "m:q pp512"])

    def test_another_card_is_not_compared(self):
        self.assertEqual(self.lost(1.0, 1.0, "H"), [])

    def test_tests_are_what_bench_runs(self):
        self.assertEqual(speeds.arguments("pp512"), ["-p", "512", "-n", "0", "-b", "1"])
        self.assertEqual(speeds.arguments("tg64x32"), ["-p", "0", "-n", "64", "-b", "32"])


class Checkers(unittest.TestCase):
    """The verdict on what a checker said."""

    PASSED = "test result: ok. 1 passed; 0 failed; 0 ignored\n"

    def test_only_what_ended_without_a_find_is_clean(self):
        memory, race = (
            "========= ERROR SUMMARY: 0 errors\n",
            "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n",
        )
        for summary in (memory, race):
            self.assertEqual(sanitize.verdict(self.PASSED + summary, 0), "clean")
            self.assertEqual(sanitize.verdict(self.PASSED + summary, None), "stopped")
            self.assertNotEqual(sanitize.verdict(summary, 0), "clean", "no test has passed")
            self.assertNotEqual(sanitize.verdict(self.PASSED.replace("1", "0", 1) + summary, 0), "clean")
        self.assertNotEqual(sanitize.verdict(self.PASSED, 0), "clean", "the checker did not sum up")

    def test_it_says_how_far_a_share_came(self):
        output = "test a ... share 1/2: 2 cases\ncompared: one\n"
        self.assertEqual(sanitize.progress(output), "1 of 2 cases")
        self.assertEqual(sanitize.progress(self.PASSED), "1 tests")

    def test_finds_are_told(self):
        for line in (
            "========= Invalid __global__ write of size 4 bytes",
            "========= Error: Race reported between Write access at x and Read access at y",
            "========= Warning: Race reported between Write access at x and Read access at y",
            "========= Program hit CUDA_ERROR_ILLEGAL_ADDRESS",
        ):
            self.assertEqual(sanitize.verdict(f"{line}\n{self.PASSED}", 0), line)
            self.assertEqual(sanitize.verdict(line, None), line)

    def test_a_share_that_the_checker_lost_is_not_clean_and_hides_no_find(self):
        lost = f"========= {sanitize.LOST}. Future records might be incomplete\n{self.PASSED}"
        counted = "========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)\n"
        race = "========= Error: Race reported between Write access at x and Read access at y"
        self.assertEqual(sanitize.verdict(lost + counted, 9), "lost")
        self.assertEqual(sanitize.verdict(lost + counted, None), counted.strip())
        self.assertEqual(sanitize.verdict(f"{race}\n{lost}{counted}", 9), race)


if __name__ == "__main__":
    unittest.main()
