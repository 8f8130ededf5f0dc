//! How numbers are written in a card.

use serde_json::Value;

/// Four digits that count, thousands apart, powers of ten where it is small.
pub fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return thousands(value as i64);
    }
    match value.abs() {
        size if size >= 1000.0 => thousands(value.round() as i64),
        size if size < 1e-3 => format!("{value:.1e}"),
        size => {
            let decimals = (3 - size.log10().floor() as i32).clamp(0, 4) as usize;
            format!("{value:.decimals$}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    format!("{}{}", if value < 0 { "-" } else { "" }, groups.join(","))
}

/// 14.5 M.
pub fn millions(count: usize) -> String {
    match count {
        0..1_000_000 => number(count as f64),
        _ if count < 10_000_000 => format!("{:.2} M", count as f64 / 1e6),
        _ => format!("{:.1} M", count as f64 / 1e6),
    }
}

/// 26.6 MB, of a million bytes each.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// 48 s, 6.8 minutes, 1.5 hours.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{} s", number((s * 10.0).round() / 10.0)),
        s if s < 6000.0 => format!("{:.1} minutes", s / 60.0),
        s => format!("{:.1} hours", s / 3600.0),
    }
}

/// A value in a sentence; a share with its interval; lists say nothing.
pub fn value(value: &Value) -> Option<String> {
    match value {
        Value::Number(n) => n.as_f64().map(number),
        Value::String(text) => Some(text.clone()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::Object(all) => share(value).or_else(|| {
            let inner = |(name, v): (&String, &Value)| Some(format!("{} {}", spoken(name), self::value(v)?));
            Some(all.iter().filter_map(inner).collect::<Vec<_>>().join(", "))
        }),
        _ => None,
    }
}

/// What a `Share` of `evaluate` says.
fn share(value: &Value) -> Option<String> {
    let number = |name: &str| value.get(name)?.as_f64();
    Some(format!("{:.1} % ({:.1} to {:.1})", number("percent")?, number("low")?, number("high")?))
}

/// `held_out_error` in words.
pub fn spoken(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_by_hand() {
        for (value, want) in [
            (11_333.0, "11,333"),
            (1_234_567.0, "1,234,567"),
            (-1000.0, "-1,000"),
            (28.639_7, "28.64"),
            (0.179_04, "0.179"),
            (0.000_012, "1.2e-5"),
            (21_600.4, "21,600"),
            (0.0, "0"),
        ] {
            assert_eq!(number(value), want);
        }
        assert_eq!([millions(21_300_000), millions(1_446_000), millions(900)], ["21.3 M", "1.45 M", "900"]);
        assert_eq!([size(26_551_000), size(225)], ["26.6 MB", "0.2 kB"]);
        assert_eq!([duration(48.04), duration(408.0), duration(7200.0)], ["48 s", "6.8 minutes", "2.0 hours"]);
    }

    #[test]
    fn values_are_said() {
        let top5 = json!({ "hits": 135, "of": 200, "percent": 67.5, "low": 60.7, "high": 73.6 });
        assert_eq!(value(&top5).unwrap(), "67.5 % (60.7 to 73.6)");
        assert_eq!(value(&json!({ "one_step": 0.5, "list": [1] })).unwrap(), "one step 0.5");
        assert_eq!(value(&json!([1])), None);
    }
}
