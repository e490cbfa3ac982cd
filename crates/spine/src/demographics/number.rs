//! The number that a person is known by: whether one can be, and which are given out.

use super::rules::{Check, Rules};

impl Rules {
    /// Whether a text can be a number: so many digits, the last of which is right for the others.
    #[must_use]
    pub fn is_number(&self, text: &str) -> bool {
        if text.len() != self.digits || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
        let (others, last) = text.split_at(self.digits - 1);
        match self.check_digit(others) {
            Checked::Digit(digit) => last == digit.to_string(),
            Checked::Any => true,
            Checked::Nothing => false,
        }
    }

    fn check_digit(&self, others: &str) -> Checked {
        let digits = others.bytes().map(|byte| u32::from(byte - b'0'));
        match &self.check {
            Check::None => Checked::Any,
            Check::Luhn => {
                let doubled = digits.rev().enumerate().map(|(place, digit)| {
                    let digit = if place % 2 == 0 { 2 * digit } else { digit };
                    digit / 10 + digit % 10
                });
                Checked::Digit((10 - doubled.sum::<u32>() % 10) % 10)
            }
            Check::Weights { weights, modulus } => {
                let sum: u32 = digits
                    .zip(weights)
                    .map(|(digit, weight)| digit * weight)
                    .sum();
                match modulus - sum % modulus {
                    digit if digit == *modulus => Checked::Digit(0),
                    digit if digit > 9 => Checked::Nothing,
                    digit => Checked::Digit(digit),
                }
            }
        }
    }

    /// The number that `seed` stands for within what is given out; none where its check digit would need two.
    #[must_use]
    pub fn number_of(&self, seed: u64) -> Option<String> {
        let prefixes = u64::try_from(self.allocate.len()).ok()?;
        let place = usize::try_from(seed.checked_rem(prefixes)?).ok()?;
        let prefix = self.allocate.get(place)?;
        let free = self.digits - 1 - prefix.len();
        let rest = (seed / prefixes) % 10_u64.pow(u32::try_from(free).ok()?);
        let others = if free == 0 {
            prefix.clone()
        } else {
            format!("{prefix}{rest:0free$}")
        };
        match self.check_digit(&others) {
            Checked::Digit(digit) => Some(format!("{others}{digit}")),
            Checked::Any => Some(format!("{others}0")),
            Checked::Nothing => None,
        }
    }
}

enum Checked {
    Digit(u32),
    /// Any digit will do.
    Any,
    /// No digit would be right.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(check: Check, digits: usize) -> Rules {
        Rules {
            check,
            digits,
            ..Rules::named("england").expect("rules")
        }
    }

    /// The numbers are published examples: of the service's own pages, and of the data dictionary.
    #[test]
    fn numbers_of_england() {
        let rules = Rules::named("england").expect("rules");
        for (text, expected) in [
            ("9000000009", true),
            ("9000000017", true),
            ("9000000025", true),
            ("9000000033", true),
            ("9111231130", true),
            ("9434765919", true),
            ("9000000000", false),
            ("9000000018", false),
            ("900000000", false),
            ("90000000090", false),
            ("900000000x", false),
            ("", false),
            (" 9000000009", false),
            ("900 000 0009", false),
            ("９０００００００09", false),
        ] {
            assert_eq!(rules.is_number(text), expected, "{text}");
        }
        // A sum that leaves 1 would need a check digit of 10: whatever stands there is wrong.
        for last in 0..10 {
            assert!(!rules.is_number(&format!("999000000{last}")));
        }
    }

    #[test]
    fn numbers_that_are_given_out_are_numbers() {
        let rules = Rules::named("england").expect("rules");
        let mut without = 0;
        for seed in (0..20_000).map(|seed: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            match rules.number_of(seed) {
                Some(number) => {
                    assert!(
                        rules.is_number(&number) && number.starts_with("999"),
                        "{number}"
                    );
                }
                None => without += 1,
            }
        }
        // One in eleven.
        assert!((1_500..2_200).contains(&without), "{without}");
    }

    #[test]
    fn numbers_of_elsewhere() {
        for (check, digits, text, expected) in [
            (Check::Luhn, 10, "8112189876", true),
            (Check::Luhn, 10, "8112189875", false),
            (Check::Luhn, 11, "79927398713", true),
            (Check::None, 10, "0000000001", true),
            (Check::None, 10, "000000001", false),
        ] {
            assert_eq!(rules(check, digits).is_number(text), expected, "{text}");
        }
    }
}
