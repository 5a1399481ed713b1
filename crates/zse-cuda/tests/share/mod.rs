//! What a process does of a test that several share: NVIDIA's checkers make kernels so slow that a test ends in minutes
//! only as many processes side by side (`check/sanitize.py`).

use zse_cuda::Kernels;

/// This process's share of `all`: what `ZSE_SHARE` says, `2/8` for the second of eight; all without it.
pub(crate) fn of<T>(all: &[T]) -> impl Iterator<Item = &T> {
    let share = std::env::var("ZSE_SHARE").unwrap_or("1/1".to_owned());
    let (number, count) = share.split_once('/').expect("a share, such as 2/8");
    let [number, count] = [number, count].map(|n| n.parse::<usize>().expect("a number"));
    let all: Vec<&T> = all.iter().skip(number - 1).step_by(count).collect();
    println!("share {share}: {} cases", all.len());
    all.into_iter()
}

/// The only kernels to run, where `ZSE_KERNELS` says so: `card`, those for this card, or `portable`, and no cuBLASLt.
pub(crate) fn kernels() -> Option<Kernels> {
    let portable = match std::env::var("ZSE_KERNELS").ok()?.as_str() {
        "card" => false,
        "portable" => true,
        other => panic!("ZSE_KERNELS={other}: card or portable"),
    };
    Some(Kernels {
        portable,
        cublas: false,
    })
}
