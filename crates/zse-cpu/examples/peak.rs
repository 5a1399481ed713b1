//! Prints what this machine does at most, as JSON: GB/s read, and 10^9 operations a second on 8-bit
//! integers and on f32.
//!
//! ```text
//! cargo run --release -p zse-cpu --example peak -- [THREADS [ISA]]
//! ```

use std::error::Error;

use zse_cpu::Peaks;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let threads = match args.next() {
        Some(n) => n.parse()?,
        None => std::thread::available_parallelism()?.get(),
    };
    let isa = args.next().map(|name| name.parse()).transpose()?;
    let peaks = Peaks::measure(threads, isa).ok_or("this CPU lacks that instruction set")?;
    println!(
        "{{\"threads\": {threads}, \"read_gbs\": {:.1}, \"int8_gops\": {:.1}, \"f32_gflops\": {:.1}}}",
        peaks.read_gbs, peaks.int8_gops, peaks.f32_gflops
    );
    Ok(())
}
