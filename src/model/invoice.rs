//! The cost of usage: price lists and invoices. All amounts are computed in decimal arithmetic.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Serialize, Serializer};

/// A currency for billing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Currency {
    code: String,
}

/// Currencies whose amounts do not have two decimals, grouped by their number of decimals (ISO 4217).
const UNUSUAL_DECIMALS: &[(u32, &[&str])] = &[
    (
        0,
        &[
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND",
            "VUV", "XAF", "XOF", "XPF",
        ],
    ),
    (3, &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]),
];

impl Currency {
    /// Returns the currency with this code, such as `EUR`; none unless the code is three upper-case ASCII letters.
    pub fn from_code(code: &str) -> Option<Self> {
        let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then(|| Self {
            code: code.to_owned(),
        })
    }

    /// Returns the number of decimals of an amount.
    pub fn decimals(&self) -> u32 {
        let unusual = UNUSUAL_DECIMALS
            .iter()
            .find(|(_, codes)| codes.contains(&self.code.as_str()));
        unusual.map_or(2, |(decimals, _)| *decimals)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)
    }
}

/// The price of a unit and the free monthly allowance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    /// The price of a unit.
    pub price: Decimal,
    /// The number of units that are free in each month.
    pub free: Decimal,
}

/// The prices of all billed items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceList {
    /// The currency of all prices.
    pub currency: Currency,
    /// The price of 1,000 billable requests.
    pub requests: Price,
    /// The price of a GB (10^9 bytes) sent.
    pub sent: Price,
    /// The price of a GB (10^9 bytes) scanned in the lake's files.
    pub scanned: Price,
}

impl PriceList {
    /// Whether all prices are zero.
    pub fn is_free(&self) -> bool {
        let prices = [self.requests, self.sent, self.scanned];
        prices.iter().all(|price| price.price.is_zero())
    }
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvoiceLine {
    /// The billed item.
    pub item: &'static str,
    /// The unit of the quantities.
    pub unit: &'static str,
    /// The usage, in units.
    #[serde(serialize_with = "as_text")]
    pub quantity: Decimal,
    /// The part of the usage that is free.
    #[serde(serialize_with = "as_text")]
    pub allowance: Decimal,
    /// The part of the usage that is billed.
    #[serde(serialize_with = "as_text")]
    pub billed: Decimal,
    /// The price of a unit.
    #[serde(serialize_with = "as_text")]
    pub price: Decimal,
    /// The amount due: `billed` times `price`, rounded half up to the currency's decimals.
    #[serde(serialize_with = "as_text")]
    pub amount: Decimal,
}

/// An invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invoice {
    /// The currency of all amounts.
    #[serde(serialize_with = "as_text")]
    pub currency: Currency,
    /// One line for each billed item.
    pub lines: Vec<InvoiceLine>,
    /// The sum of the lines' amounts.
    #[serde(serialize_with = "as_text")]
    pub total: Decimal,
}

/// The error for an amount with more digits than a [`Decimal`] holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the amount for {item} has more than 28 digits; check the price list (`[billing]` in the settings)"
)]
pub struct AmountTooLarge {
    item: &'static str,
}

/// Serialises as text, so that no program parses an amount as a binary fraction.
fn as_text<S: Serializer>(value: &impl fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

impl Invoice {
    /// Computes the invoice for the usage of one month.
    pub fn compute(
        prices: &PriceList,
        requests: u64,
        bytes_sent: u64,
        bytes_scanned: u64,
    ) -> Result<Self, AmountTooLarge> {
        let decimals = prices.currency.decimals();
        let items = [
            (
                "billable requests",
                "1000 requests",
                requests,
                3,
                prices.requests,
            ),
            ("sent", "GB", bytes_sent, 9, prices.sent),
            ("scanned", "GB", bytes_scanned, 9, prices.scanned),
        ];
        let lines = items.map(|(item, unit, used, scale, price)| {
            // Exact: only the scale changes, and no count has more than 20 digits.
            let quantity = Decimal::from_i128_with_scale(used.into(), scale).normalize();
            let allowance = quantity.min(price.free).normalize();
            let billed = (quantity - allowance).normalize();
            // Exact up to 28 digits: a million GB to the byte, at a price of twelve digits.
            let exact = billed
                .checked_mul(price.price)
                .ok_or(AmountTooLarge { item })?;
            let mut amount =
                exact.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero);
            amount.rescale(decimals);
            Ok(InvoiceLine {
                item,
                unit,
                quantity,
                allowance,
                billed,
                price: price.price,
                amount,
            })
        });
        let lines = lines.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut total = lines
            .iter()
            .try_fold(Decimal::ZERO, |sum, line| sum.checked_add(line.amount))
            .ok_or(AmountTooLarge { item: "all" })?;
        total.rescale(decimals);
        Ok(Self {
            currency: prices.currency.clone(),
            lines,
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::from_str_exact(text).unwrap()
    }

    fn prices(currency: &str, price: &str, free: &str) -> PriceList {
        let of = |price, free| Price {
            price: decimal(price),
            free: decimal(free),
        };
        PriceList {
            currency: Currency::from_code(currency).unwrap(),
            requests: of(price, free),
            sent: of("0.09", "1"),
            scanned: of("0", "0"),
        }
    }

    #[test]
    fn invoice_line_amount_rounds_half_up_after_allowance() {
        for (currency, requests, price, free, amount) in [
            ("EUR", 1_500, "0.01", "0", "0.02"),
            ("EUR", 1_499, "0.01", "0", "0.01"),
            ("EUR", 500, "0.01", "0", "0.01"),
            ("EUR", 500, "0.01", "1", "0.00"),
            ("EUR", 12_345, "0.5", "2", "5.17"),
            ("JPY", 12_345, "0.2", "0", "2"),
            ("JPY", 2_500, "1", "0", "3"),
            ("KWD", 1_500, "0.001", "0", "0.002"),
            ("EUR", u64::MAX, "0", "0", "0.00"),
        ] {
            let invoice = Invoice::compute(&prices(currency, price, free), requests, 0, 0).unwrap();
            let line = &invoice.lines[0];
            assert_eq!(line.amount.to_string(), amount, "{requests} at {price}");
            assert_eq!(invoice.total, line.amount);
            assert_eq!(line.quantity, line.allowance + line.billed);
        }
    }

    #[test]
    fn invoice_total_is_sum_of_rounded_lines() {
        let invoice = Invoice::compute(&prices("EUR", "0.01", "0"), 500, 1_055_555_556, 7).unwrap();
        let amounts = invoice.lines.iter().map(|line| line.amount.to_string());
        assert_eq!(amounts.collect::<Vec<_>>(), ["0.01", "0.01", "0.00"]);
        assert_eq!(invoice.total.to_string(), "0.02");
        assert_eq!(invoice.lines[2].quantity.to_string(), "0.000000007");
    }

    #[test]
    fn invoice_rejects_overflow_and_currency_rejects_bad_codes() {
        let huge = prices("EUR", "79228162514264337593543950335", "0");
        assert!(Invoice::compute(&huge, u64::MAX, 0, 0).is_err());
        for wrong in ["eur", "EURO", "E", "", "€uro"] {
            assert_eq!(Currency::from_code(wrong), None);
        }
    }
}
