"""Gets and builds the peers: llama.cpp from the source distribution of llama-cpp-python on PyPI,
ik_llama.cpp from its repository. Nothing of them becomes part of ZSE.

A folder of peers holds a folder for each engine and instruction set (`ll`, `ik`, `ll-avx2`,
`ik-avx2`) with `llama-bench` and `llama-batched-bench`, and `llama-server` or `llama-quantize` where those are
compared.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

LLAMA_CPP_PYTHON = "0.3.36"
IK_REPOSITORY = "https://github.com/ikawrakow/ik_llama.cpp"
IK_COMMIT = "8337e4cd3861406fc04e0854b1409cd1b027fbc9"

TOOLS = ("llama-bench", "llama-batched-bench")
COMMON = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_OPENMP=OFF",
    *(f"-DLLAMA_{part}=OFF" for part in ("CURL", "OPENSSL")),
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("TESTS", "UI", "APP")),
]
NATIVE = ["-DGGML_NATIVE=ON"]
AVX2 = ["-DGGML_NATIVE=OFF", *(f"-DGGML_{x}=ON" for x in ("AVX", "AVX2", "FMA", "F16C", "BMI2"))]


def build(into: Path, names: list[str], sources: dict[str, Path], tools: tuple = TOOLS) -> None:
    """Builds those of `names` that are not in `into` yet; `sources` has trees that are at hand."""
    missing = [n for n in names if not all((into / n / tool).exists() for tool in tools)]
    if not missing:
        return
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if not shutil.which("cmake", path=env["PATH"]) or not shutil.which("ninja", path=env["PATH"]):
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "cmake", "ninja"], check=True)
    for name in missing:
        engine = name.split("-")[0]
        try:
            source = sources.get(engine) or SOURCES[engine](into)
            _build_one(source, into, name, env, tools)
        except (subprocess.CalledProcessError, OSError) as error:
            # The other engines can still be compared.
            print(f"no {name}: {error}", file=sys.stderr)


def _build_one(source: Path, into: Path, name: str, env: dict[str, str], tools: tuple) -> None:
    print(f"building {name} (some ten minutes)", file=sys.stderr)
    work = into / "build" / name
    flags = COMMON + (AVX2 if name.endswith("-avx2") else NATIVE)
    configure = ["cmake", "-G", "Ninja", "-S", source, "-B", work, *flags]
    for command in (configure, ["ninja", "-C", work, *tools]):
        subprocess.run(list(map(str, command)), check=True, env=env, stdout=subprocess.DEVNULL)
    (into / name).mkdir(parents=True, exist_ok=True)
    for tool in tools:
        shutil.copy2(work / "bin" / tool, into / name / tool)
    version = source / "ZSE_BENCH_VERSION"
    if version.exists():
        shutil.copy2(version, into / name / "VERSION")


def _llama_cpp(into: Path) -> Path:
    """The tree that the source distribution carries."""
    top = into / f"llama_cpp_python-{LLAMA_CPP_PYTHON}"
    tree = top / "vendor/llama.cpp"
    if not tree.exists():
        wanted = f"llama-cpp-python=={LLAMA_CPP_PYTHON}"
        options = ["--no-deps", "--no-binary", "llama-cpp-python", "-d", str(into)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, wanted], check=True)
        with tarfile.open(into / f"{top.name}.tar.gz") as archive:
            archive.extractall(into, filter="data")
        _mend(tree / "ggml/src/ggml-cpu/amx/mmq.cpp")
        (tree / "ZSE_BENCH_VERSION").write_text(f"as in {wanted}\n")
    return tree


def _mend(amx: Path) -> None:
    """Before release 13, gcc does not know that loading a tile configuration reads it, and leaves it
    unwritten: then the first product in AMX ends the process."""
    load = "_tile_loadconfig(&tc);"
    text = amx.read_text()
    amx.write_text(text.replace(load, f'__asm__ volatile("" : : "r"(&tc) : "memory"); {load}'))


def _ik_llama_cpp(into: Path) -> Path:
    """The repository's tree at one commit, so that results can be compared with earlier ones."""
    tree = into / "ik_llama.cpp"
    marker, version = tree / "ZSE_BENCH_VERSION", f"commit {IK_COMMIT[:9]}\n"
    if not marker.exists() or marker.read_text() != version:
        tree.mkdir(parents=True, exist_ok=True)
        for command in (
            ["init", "--quiet"],
            ["fetch", "--quiet", "--depth", "1", IK_REPOSITORY, IK_COMMIT],
            ["checkout", "--quiet", "FETCH_HEAD"],
        ):
            subprocess.run(["git", "-C", tree, *command], check=True)
        marker.write_text(version)
    return tree


SOURCES = {"ll": _llama_cpp, "ik": _ik_llama_cpp}
