//! `zse hardware`: this machine, and which models fit it.

use std::io::{self, Write};

use serde_json::json;

use crate::args::HardwareArgs;
use crate::machine::{Gpu, Machine};
use crate::term::{Table, bytes};

/// A common size of model: name, parameters, and KV cache of a token in f16 (layers x KV heads x
/// head length x 2 x 2 bytes, as in Llama 3.2/3.1, Qwen 2.5 and Mixtral).
const SIZES: [(&str, f64, u64); 6] = [
    ("1B", 1.24e9, 16 * 8 * 64 * 4),
    ("3B", 3.21e9, 28 * 8 * 128 * 4),
    ("8B", 8.03e9, 32 * 8 * 128 * 4),
    ("14B", 14.8e9, 48 * 8 * 128 * 4),
    ("32B", 32.8e9, 64 * 8 * 128 * 4),
    ("70B", 70.6e9, 80 * 8 * 128 * 4),
];

/// Types with the bits that a weight takes in files of them.
const TYPES: [(&str, f64); 3] = [("Q4_K_M", 4.85), ("Q8_0", 8.5), ("F16", 16.0)];

/// Tokens of context that are counted.
const CONTEXT: u64 = 4096;

/// What is set aside for intermediate results, the tokenizer and the program itself.
const OVERHEAD: u64 = 512 << 20;

fn needed(parameters: f64, bits: f64, kv: u64) -> u64 {
    (parameters * bits / 8.0) as u64 + kv * CONTEXT + OVERHEAD
}

pub(crate) fn run(args: &HardwareArgs) -> anyhow::Result<()> {
    let machine = Machine::here();
    let mut out = io::stdout().lock();
    if args.json {
        let fits: Vec<_> = SIZES
            .iter()
            .flat_map(|&(size, parameters, kv)| {
                TYPES
                    .iter()
                    .map(move |&(ty, bits)| (size, ty, needed(parameters, bits, kv)))
            })
            .map(|(size, ty, needed)| {
                json!({ "size": size, "type": ty, "memory": needed, "fits": fits(needed, &machine) })
            })
            .collect();
        writeln!(out, "{:#}", json!({ "machine": machine, "models": fits }))?;
        return Ok(());
    }
    writeln!(out, "system   {}", machine.system)?;
    let cores = machine.cores.map_or("?".to_owned(), |n| n.to_string());
    writeln!(
        out,
        "CPU      {} ({cores} cores, {} threads to use)",
        machine.cpu, machine.threads
    )?;
    let caches: Vec<String> = machine
        .caches
        .iter()
        .map(|c| {
            let kind = match c.kind.as_str() {
                "Data" => "d",
                "Instruction" => "i",
                _ => "",
            };
            format!("L{}{kind} {} x {}", c.level, c.count, bytes(c.bytes))
        })
        .collect();
    writeln!(out, "caches   {}", or_unknown(&caches.join(", ")))?;
    writeln!(
        out,
        "ISA      {} (kernels: {})",
        or_unknown(&machine.features.join(" ")),
        machine.isa
    )?;
    match machine.memory {
        0 => writeln!(out, "memory   unknown")?,
        total => {
            writeln!(
                out,
                "memory   {}, {} available",
                bytes(total),
                bytes(machine.available)
            )?;
        }
    }
    if machine.gpus.is_empty() {
        writeln!(out, "GPUs     none found")?;
    }
    for (number, gpu) in machine.gpus.iter().enumerate() {
        writeln!(out, "GPU {number}    {}", describe(gpu))?;
    }
    if cfg!(feature = "cuda") && !machine.gpus.is_empty() {
        let found = machine.cublas.as_deref();
        let found = found.unwrap_or("not found: own kernels (see docs/gpu.md)");
        writeln!(out, "cuBLASLt {found}")?;
    }
    if machine.available > 0 {
        writeln!(
            out,
            "\nModels that fit the available memory, with {CONTEXT} tokens of context:\n"
        )?;
        write!(out, "{}", fitting(&machine).plain())?;
    }
    Ok(())
}

/// A GPU and how it is doing, in a line.
fn describe(gpu: &Gpu) -> String {
    let mut parts = vec![gpu.name.clone()];
    if let (Some(total), Some(used)) = (gpu.memory, gpu.used) {
        parts.push(format!("{}, {} in use", bytes(total), bytes(used)));
    }
    let numbers = [
        (gpu.utilization, "% busy"),
        (gpu.temperature, " °C"),
        (gpu.power, " W"),
        (gpu.clock, " MHz"),
        (gpu.memory_clock, " MHz memory"),
    ];
    let numbers = numbers
        .iter()
        .filter_map(|(n, unit)| n.map(|n| format!("{n}{unit}")));
    parts.extend(numbers);
    if let Some(reasons) = gpu.throttled.as_ref().filter(|r| !r.is_empty()) {
        parts.push(format!("held down by {}", reasons.join(" and ")));
    }
    if !cfg!(feature = "cuda") {
        parts.push("not used by this build: it lacks the feature `cuda`".to_owned());
    }
    parts.join(", ")
}

/// Whether so many bytes are available; `None` where the machine does not say.
fn fits(needed: u64, machine: &Machine) -> Option<bool> {
    (machine.available > 0).then_some(needed <= machine.available)
}

fn fitting(machine: &Machine) -> Table {
    let mut table = Table::new(["size", TYPES[0].0, TYPES[1].0, TYPES[2].0]);
    for (size, parameters, kv) in SIZES {
        let cell = |(_, bits): (&str, f64)| {
            let needed = needed(parameters, bits, kv);
            let verdict = match fits(needed, machine) {
                Some(true) => "fits",
                Some(false) => "no",
                None => "unknown",
            };
            format!("{verdict} ({})", bytes(needed))
        };
        let [a, b, c] = TYPES.map(cell);
        table.row([size.to_owned(), a, b, c]);
    }
    table
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}
