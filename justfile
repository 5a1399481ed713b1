# Commands for working on ZSE; `just` lists them. Each is one line that can be typed instead.

_default:
    @just --list

# Talk with the built-in model
chat *args:
    cargo run --release -- chat {{args}}

# Build the binary `zse` (target/release/zse)
build:
    cargo build --release

# Run all tests
test *args:
    cargo test --workspace {{args}}

# Format the code
fmt:
    cargo fmt --all
    cargo fmt --manifest-path parity/Cargo.toml
    cargo fmt --manifest-path fuzz/Cargo.toml

# Lint everything; warnings are errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Build the documentation; warnings are errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Check imports, file sizes, file docs and where code is unsafe
tidy:
    cargo xtask tidy

# Fuzz a target for some seconds
fuzz target="gguf" seconds="600":
    fuzz/run {{target}} {{seconds}}

# Run real clients from PyPI and npm against `zse serve` (needs python3 and the registries)
clients:
    crates/zse-server/tests/clients/run

# Compare with llama.cpp and write docs/parity.md (needs cmake and libclang; see parity/README.md)
parity:
    cd parity && cargo run --release -- report ../docs/parity.md

# Compare speed with llama.cpp and ik_llama.cpp (hours; see bench/README.md)
bench *args:
    python3 bench/run.py {{args}}

# Hold the kernels to the instructions that they took before (needs valgrind)
guard *args:
    python3 bench/guard.py {{args}}

# Check the CPU executor for AArch64 and run its tests under QEMU (see the script)
check-neon *args:
    crates/zse-cpu/check-neon {{args}}

# Build the binary with the CUDA executor (needs nvcc of CUDA 13.0; see docs/gpu.md)
build-cuda:
    cargo build --release --features cuda

# Build what gpu-check runs, into a folder that can be carried to a machine with a GPU
gpu-pack folder:
    crates/zse-cuda/gpu-pack {{folder}}

# Run all checks of the CUDA executor on this machine's GPU, with the binaries of gpu-pack
gpu-check folder:
    crates/zse-cuda/gpu-check {{folder}}

# What must pass before a push, without the fuzzing
check: tidy lint doc test
    cargo fmt --all --check
    cargo fmt --manifest-path parity/Cargo.toml --check
    cargo fmt --manifest-path fuzz/Cargo.toml --check

# Everything that CI runs
ci:
    .ci/run
