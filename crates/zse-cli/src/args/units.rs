//! Numbers with units.

/// A number of bytes, perhaps with a unit: K, M, G or T, of 1024 each.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "give a number of bytes, perhaps with K, M, G or T".to_owned();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[number.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    match number >= 0.0 {
        true => Ok((number * (1_u64 << shift) as f64) as u64),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("1000"), Ok(1000));
        assert_eq!(bytes("1.5G"), Ok(3 << 29));
        assert_eq!(bytes("2MiB"), Ok(2 << 20));
        assert_eq!(bytes("8GB"), Ok(8 << 30));
        for wrong in ["", "G", "-1", "1X", "1 G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
