//! What a job may cost: prices are the user's, since AWS changes them by region and month.

use std::fmt;

use crate::error::Error;

/// What an estimate rests on.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Basis {
    /// Machines by the hour. SageMaker ends the job after these hours, so the estimate is the most that they can cost.
    Hours {
        /// Machines.
        instances: u64,
        /// USD of one machine in an hour.
        price_per_hour: f64,
        /// Hours after which the job is ended.
        max_hours: f64,
    },
    /// Tokens, where AWS chooses the machines. Nothing there ends the job at this cost.
    Tokens {
        /// Millions of tokens that are trained on, all epochs together.
        million_tokens: f64,
        /// USD of a million tokens.
        price_per_million: f64,
    },
}

impl Basis {
    /// The estimate in USD.
    pub fn usd(&self) -> f64 {
        match *self {
            Self::Hours { instances, price_per_hour, max_hours } => instances as f64 * price_per_hour * max_hours,
            Self::Tokens { million_tokens, price_per_million } => million_tokens * price_per_million,
        }
    }

    /// Refuses a job that may cost more than `most` USD, and one of which nobody has said how much it may.
    ///
    /// # Errors
    /// As said.
    pub fn allow(&self, most: Option<f64>) -> Result<(), Error> {
        let refused = |problem: String, hint: &str| Err(Error::Cost { problem, hint: hint.to_owned() });
        match most {
            None => refused(format!("this may cost {self}"), "say how much it may by --max-cost USD"),
            Some(most) if self.usd() <= most => Ok(()),
            Some(most) => {
                refused(format!("this may cost {self}; allowed are ${most:.2}"), "raise --max-cost, or ask for less")
            }
        }
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "${:.2}: ", self.usd())?;
        match self {
            Self::Hours { instances, price_per_hour, max_hours } => write!(
                to,
                "{instances} machines at ${price_per_hour} an hour, for {max_hours} hours at most, after which SageMaker ends the job"
            ),
            Self::Tokens { million_tokens, price_per_million } => write!(
                to,
                "{million_tokens} million tokens at ${price_per_million} a million, both as given; nothing ends the job at this cost"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_spent_unasked() {
        let hours = Basis::Hours { instances: 4, price_per_hour: 98.5, max_hours: 2.0 };
        assert_eq!(hours.usd(), 788.0);
        let said = hours.allow(None).unwrap_err().to_string();
        assert!(
            said.starts_with("this may cost $788.00: 4 machines at $98.5 an hour") && said.contains("--max-cost"),
            "{said}"
        );
        assert!(hours.allow(Some(787.99)).unwrap_err().to_string().contains("allowed are $787.99"));
        assert!(hours.allow(Some(788.0)).is_ok());
        let unknown = Basis::Tokens { million_tokens: f64::NAN, price_per_million: 1.0 };
        assert!(unknown.allow(Some(1e9)).is_err(), "what is no number is no permission");
    }
}
