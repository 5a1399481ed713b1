"""What the programs of this folder share: where things are, and how they are made."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("ZSE_BENCH_CACHE", Path.home() / ".cache/zse-bench"))


def own_python(cache: Path) -> None:
    """Goes on in an environment with numpy where this one has none."""
    try:
        import numpy  # noqa: F401
    except ImportError:
        python = cache / "venv/bin/python"
        if Path(sys.prefix) == cache / "venv":
            sys.exit("numpy cannot be imported")
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", cache / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "numpy"], check=True)
        os.execv(python, [str(python), *sys.argv])


def arguments(doc: str, name: str) -> argparse.ArgumentParser:
    """The options of a comparison with peers; `name` is that of the results, if none is given."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--zse", type=Path, help="ZSE; built where none is given")
    parser.add_argument("--peers", type=Path, help="folder of peers; built where none is given")
    parser.add_argument("--no-peers", action="store_true", help="measure ZSE alone")
    parser.add_argument("--cache", type=Path, default=CACHE, help="for models, peers and what is made of them")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a trial: one round of a tiny model")
    parser.add_argument("--name", default=name, help="of the results")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet machine")
    return parser


def target() -> Path:
    """Where cargo puts what it builds."""
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()


def build(*what: str) -> None:
    """Builds packages of ZSE, which tell the commit that they are of."""
    environment = os.environ | {"ZSE_COMMIT": commit()}
    subprocess.run(["cargo", "build", "--release", *what], cwd=ROOT, check=True, env=environment)


def zse(given: Path | None) -> Path:
    """The binary `zse`, built where none is given."""
    if not given:
        build("-p", "zse-cli")
    return given or target() / "release/zse"


def commit() -> str:
    """The commit of the sources, and whether they differ from it; results do not count."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "crates", "Cargo.toml", "Cargo.lock")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + "-changed" * bool(changed)


def warm(path: Path) -> None:
    """Has a file in the page cache."""
    with path.open("rb") as file:
        while file.read(8 << 20):
            pass


def publish(name: str, lines: list[str]) -> None:
    """Prints a page, and writes it into bench/results."""
    path = ROOT / "bench/results" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def model(shape: str, quant: str, cache: Path) -> Path:
    """The file of a model, made if it is not there."""
    path = cache / "models" / f"{shape}-{quant}.gguf"
    if not path.exists():
        import synth

        print(f"making {path.name}", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        synth.make(shape, quant, path)
    return path
