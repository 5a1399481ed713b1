"""Results as CSV, which holds everything, and as tables in Markdown.

    python3 bench/report.py RESULT.csv ... [--into docs/performance.md]

prints the tables of results, or puts them between the lines `<!-- results -->` and
`<!-- end of results -->` of a page.
"""

import argparse
import csv
import statistics
from dataclasses import dataclass, field, fields
from pathlib import Path

OURS = "zse"


@dataclass
class Sample:
    """One run of one engine, and what the machine did at most just before."""

    group: str
    model: str
    test: str
    engine: str
    round: int
    value: float
    unit: str
    target: float
    target_where_slow: float
    # Tokens a second if nothing but the machine's read bandwidth, or its 8-bit rate, limited it.
    ceiling: float
    peak_rss: int
    file_bytes: int
    others: float
    wall_s: float
    read_gbs: float
    int8_gops: float
    f32_gflops: float
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    load_ms: float = 0.0
    # The peer that counts, if it is not the better one; the most bytes that we may use, if that is
    # asked for.
    against: str = ""
    rss_limit: int = 0

    @property
    def case(self) -> tuple[str, str, str]:
        return self.group, self.model, self.test


@dataclass
class Results:
    """Samples, and facts about all of them: machine, commits, versions."""

    facts: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def replace(self, samples: list[Sample]) -> None:
        """Takes `samples` for all that was known of their cases."""
        cases = {sample.case for sample in samples}
        self.samples = [s for s in self.samples if s.case not in cases] + samples

    def write(self, path: Path) -> None:
        with open(path, "w", newline="") as file:
            file.writelines(f"# {key}: {value}\n" for key, value in self.facts.items())
            out = csv.writer(file)
            names = [f.name for f in fields(Sample)]
            out.writerow(names)
            for s in self.samples:
                values = [getattr(s, name) for name in names]
                out.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])


def read(path: Path) -> Results:
    lines = path.read_text().splitlines()
    facts = [line[2:].split(": ", 1) for line in lines if line.startswith("# ")]
    rows = csv.DictReader(line for line in lines if not line.startswith("# "))
    kinds = {f.name: f.type for f in fields(Sample)}
    samples = [Sample(**{key: kinds[key](value) for key, value in row.items()}) for row in rows]
    return Results({key: value for key, value in facts}, samples)


@dataclass
class Row:
    """All samples of a case."""

    samples: list[Sample]

    def of(self, engine: str) -> list[Sample]:
        return [s for s in self.samples if s.engine == engine]

    def median(self, engine: str, what: str = "value") -> float:
        return statistics.median(getattr(s, what) for s in self.of(engine))

    def better_peer(self) -> str | None:
        """The one to compare with."""
        peers = {s.engine for s in self.samples} - {OURS}
        if against := self.samples[0].against:
            peers &= {against}
        best = min if self.samples[0].unit == "s" else max
        return best(peers, key=self.median) if peers else None

    def ratio(self) -> float | None:
        """How many times as good as the better peer we are: the median over the rounds that both
        ran, so that a machine that slows down slows both."""
        peer = self.better_peer()
        if peer is None or not self.of(OURS):
            return None
        theirs = {s.round: s.value for s in self.of(peer)}
        ratios = [s.value / theirs[s.round] for s in self.of(OURS) if s.round in theirs]
        if not ratios:
            return None
        ratio = statistics.median(ratios)
        return 1 / ratio if self.samples[0].unit == "s" else ratio

    def share(self, engine: str) -> float | None:
        """How much of the ceiling an engine reached."""
        known = [s.value / s.ceiling for s in self.of(engine) if s.ceiling]
        return statistics.median(known) if known else None

    def target(self) -> float:
        first, peer = self.samples[0], self.better_peer()
        slow = peer is not None and (self.share(peer) or 1.0) < 0.85
        return first.target_where_slow if first.target_where_slow and slow else first.target


def rows(samples: list[Sample]) -> list[Row]:
    cases: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        cases.setdefault(sample.case, []).append(sample)
    return [Row(samples) for samples in cases.values()]


def markdown(results: Results, level: str = "#") -> str:
    """All tables, by group."""
    out = [f"{level} {results.facts.get('title', 'Results')}", ""]
    out += [f"- {key}: {value}" for key, value in results.facts.items() if key != "title"]
    out += [f"- {line}" for line in machine_facts(results.samples)]
    for group in dict.fromkeys(s.group for s in results.samples):
        of_group = rows([s for s in results.samples if s.group == group])
        out += ["", f"{level}# {group}", "", *table(of_group)]
    return "\n".join(out) + "\n"


def machine_facts(samples: list[Sample]) -> list[str]:
    names = {
        "read_gbs": "GB/s read",
        "int8_gops": "GOPS of 8 bits",
        "f32_gflops": "GFLOPS of f32",
    }
    ranges = []
    for key, name in names.items():
        values = [getattr(s, key) for s in samples]
        if values:
            ranges.append(f"{min(values):.0f} to {max(values):.0f} {name}")
    return ["between the rounds: " + ", ".join(ranges)] if ranges else []


def table(of_group: list[Row]) -> list[str]:
    engines = list(dict.fromkeys(s.engine for row in of_group for s in row.samples))
    unit = of_group[0].samples[0].unit
    heads = ["model", "test", *(f"{name} {unit}" for name in engines)]
    heads += ["ratio", "target", "of the ceiling", "p50, p95, p99 ms"]
    heads += [f"{name} MiB" for name in engines] + ["file MiB", "others"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
    return lines + ["| " + " | ".join(_cells(row, engines)) + " |" for row in of_group]


def _cells(row: Row, engines: list[str]) -> list[str]:
    first, ratio = row.samples[0], row.ratio()
    cells = [first.model, first.test]
    cells += [_spread(row.of(name), first.unit) for name in engines]
    cells.append(f"{ratio:.2f}" if ratio else "")
    target = row.target()
    verdict = ("met" if ratio >= target else "missed") if ratio else ""
    cells.append(f"{target:.2f} {verdict}".strip())
    shares = [(name, row.share(name)) for name in engines if row.of(name)]
    cells.append(", ".join(f"{share:.0%}" for _, share in shares if share))
    ours = row.of(OURS)
    latencies = [row.median(OURS, f"p{p}_ms") for p in (50, 95, 99)] if ours else []
    cells.append(", ".join(f"{ms:.1f}" for ms in latencies) if any(latencies) else "")
    for name in engines:
        rss = max((s.peak_rss for s in row.of(name)), default=0)
        limit = first.rss_limit if name == OURS else 0
        of_limit = f" of {limit >> 20} {'met' if rss <= limit else 'missed'}" if limit else ""
        cells.append(f"{rss >> 20}{of_limit}" if rss else "")
    cells.append(str(first.file_bytes >> 20))
    most = max(s.others for s in row.samples)
    cells.append(f"{most:.0%}" + (" (!)" if most > 0.05 else ""))
    return cells


def _spread(samples: list[Sample], unit: str) -> str:
    """The median, and how far the rounds lie from it at most."""
    if not samples:
        return "failed"
    values = [s.value for s in samples]
    median = statistics.median(values)
    worst = max(abs(value - median) for value in values)
    digits = 2 if unit == "s" else 1
    return f"{median:.{digits}f} ± {worst:.{digits}f}"


BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def put_into(page: Path, text: str) -> None:
    before, _, rest = page.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, help="a page to fill")
    args = parser.parse_args()
    text = "\n".join(markdown(read(path), "##" if args.into else "#") for path in args.results)
    if args.into:
        put_into(args.into, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
