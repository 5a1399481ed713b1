"""Tests of what the tables say: `python3 -m unittest discover -s bench`."""

import tempfile
import unittest
from pathlib import Path

import report
from engines import Failed, IkLlamaCpp, LlamaCpp
from groups import CASES, GROUPS, Case
from report import Results, Row, Sample


def sample(engine: str, round: int, value: float, **more) -> Sample:
    fields = dict(group="decode", model="m-q4_0", test="tg8", unit="t/s", target=1.0)
    fields |= dict(target_where_slow=0.0, ceiling=100.0, peak_rss=1 << 20, file_bytes=1 << 20)
    fields |= dict(others=0.0, wall_s=1.0, read_gbs=40.0, int8_gops=1.0, f32_gflops=1.0)
    return Sample(engine=engine, round=round, value=value, **(fields | more))


class Ratios(unittest.TestCase):
    def test_rounds_are_paired_so_that_a_slow_machine_slows_both(self):
        speeds = {"zse": (60, 30, 60), "llama.cpp": (40, 20, 40), "ik_llama.cpp": (30, 39, 30)}
        row = Row([sample(e, i, v) for e, values in speeds.items() for i, v in enumerate(values)])
        self.assertEqual(row.better_peer(), "llama.cpp")
        self.assertAlmostEqual(row.ratio(), 1.5)

    def test_of_times_the_lesser_is_the_better(self):
        times = {"zse": 0.5, "llama.cpp": 0.8, "ik_llama.cpp": 0.6}
        samples = [sample(e, 0, v, unit="s") for e, v in times.items()]
        self.assertAlmostEqual(Row(samples).ratio(), 1.2)
        for s in samples:
            s.against = "llama.cpp"
        self.assertAlmostEqual(Row(samples).ratio(), 1.6)

    def test_more_is_asked_for_where_the_peer_leaves_bandwidth_unused(self):
        for peer, target in ((84, 1.1), (86, 1.0)):
            row = Row([sample("zse", 0, 90), sample("llama.cpp", 0, peer)])
            for s in row.samples:
                s.target_where_slow = 1.1
            self.assertEqual(row.target(), target)

    def test_without_a_peer_or_without_us_there_is_no_ratio(self):
        self.assertIsNone(Row([sample("zse", 0, 1)]).ratio())
        self.assertIsNone(Row([sample("llama.cpp", 0, 1)]).ratio())


class Files(unittest.TestCase):
    def test_results_are_read_as_they_were_written_and_replaced_by_case(self):
        results = Results({"title": "T", "ZSE": "1: 2"}, [sample("zse", 0, 1.5, p50_ms=2.0)])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "r.csv"
            results.write(path)
            known = report.read(path)
        self.assertEqual(known, results)
        other = sample("zse", 0, 3.0, test="pp8")
        known.replace([other])
        self.assertEqual(known.samples, [*results.samples, other])
        known.replace([sample("zse", 0, 9.0)])
        self.assertEqual([s.value for s in known.samples], [3.0, 9.0])

    def test_a_table_says_what_was_met_and_what_failed(self):
        samples = [sample("zse", 0, 9), sample("llama.cpp", 0, 10), sample("zse", 0, 1, test="pp8")]
        text = report.markdown(Results({}, samples))
        self.assertIn("| 0.90 | 1.00 missed |", text)
        self.assertIn("failed", text)

    def test_a_page_is_filled_between_its_marks(self):
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "p.md"
            page.write_text(f"a\n{report.BEGIN}\nold\n{report.END}\nb\n")
            report.put_into(page, "new")
            self.assertEqual(page.read_text(), f"a\n{report.BEGIN}\n\nnew\n{report.END}\nb\n")
            page.write_text("none")
            self.assertRaises(SystemExit, report.put_into, page, "new")


class Cases(unittest.TestCase):
    def test_every_case_is_there_once_and_trials_are_small(self):
        self.assertEqual(len({(c.group, c.model, c.test) for c in CASES}), len(CASES))
        self.assertEqual(GROUPS[:2], ["prefill", "decode"])
        self.assertEqual(Case("g", "s", "q", prompt=512).smaller(8).test, "pp64")
        self.assertEqual(Case("g", "s", "q").smaller(8).test, "start")

    def test_batched_speeds_are_found_in_a_table(self):
        out = (
            "|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |\n"
            "|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|\n"
            "|    16 |     32 |    8 |    384 |    0.900 |   142.22 |    2.000 |   128.00 |    2.900 |   132.41 |\n"
        )
        case = Case("batch", "s", "q", generate=32, depth=16, seqs=8)
        for peer in (LlamaCpp(Path()), IkLlamaCpp(Path())):
            self.assertEqual(peer.value(case, "", out)[0], 128.0)
            self.assertRaises(Failed, peer.value, case, "", "no table")


if __name__ == "__main__":
    unittest.main()
