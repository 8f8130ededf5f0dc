//! Numbers of bytes on the command line.

/// A number of bytes, written `512M`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 1,
            "K" | "KB" => 1_000,
            "M" | "MB" => 1_000_000,
            "G" | "GB" => 1_000_000_000,
            _ => return Err("write it as 512M, 2G or bytes".into()),
        };
        let number: u64 = digits.parse().map_err(|_| "write it as 512M, 2G or bytes".to_owned())?;
        number.checked_mul(unit).map(Bytes).ok_or_else(|| "that is more than any machine has".into())
    }
}
