//! Parsers of settings about money. They are exact.

use rust_decimal::Decimal;

use crate::model::Currency;

pub(in crate::config) fn currency(text: &str) -> Result<Currency, String> {
    Currency::from_code(text.trim()).ok_or_else(|| "is not a currency code".to_owned())
}

pub(in crate::config) fn whole_number(text: &str) -> Result<u64, String> {
    let number = text.trim().parse();
    number.map_err(|_| "is not a whole number".to_owned())
}

pub(in crate::config) fn price(text: &str) -> Result<Decimal, String> {
    decimal(text, 6, 1_000_000)
}

pub(in crate::config) fn quantity(text: &str) -> Result<Decimal, String> {
    decimal(text, 9, 1_000_000_000)
}

/// Parses a decimal number such as `12.50` exactly, with at most `decimals` decimals.
fn decimal(text: &str, decimals: u32, max: u64) -> Result<Decimal, String> {
    let text = text.trim();
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = Decimal::from_str_exact(text).ok().filter(|_| is_plain);
    let number = number.ok_or_else(|| "is not a number".to_owned())?;
    if number.scale() > decimals {
        return Err("has too many decimals".to_owned());
    }
    if number > Decimal::from(max) {
        return Err("is above the maximum".to_owned());
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn price_accepts_exact_decimals_only() {
        for good in ["0", "0.40", "12", "0.000001", "1000000"] {
            assert_eq!(price(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            ".",
            "-1",
            "0,40",
            "1e3",
            "1_000",
            "0.0000001",
            "1000001",
            "free",
            "1 EUR",
        ] {
            assert!(price(bad).is_err(), "{bad}");
        }
        assert!(currency("EUR").is_ok() && currency("Euro").is_err());
    }
}
