//! The date of a run.

use jiff::Timestamp;

/// This second in UTC, as RFC 3339 writes it: `2026-11-25T16:44:06Z`.
pub fn utc_now() -> String {
    utc(Timestamp::now())
}

/// Midnight, in UTC, of the day of a date as [`utc_now`] writes it; nothing where it is none.
pub fn day(date: &str) -> Option<Timestamp> {
    let moment: Timestamp = date.parse().ok()?;
    let seconds = moment.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(24 * 60 * 60)).ok()
}

fn utc(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight() {
        for (date, begins) in [
            ("2026-11-25T16:44:06Z", "2026-11-25T00:00:00Z"),
            ("2026-11-25T00:00:00Z", "2026-11-25T00:00:00Z"),
            ("2026-11-25T01:30:00+02:00", "2026-11-24T00:00:00Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T00:00:00Z"),
        ] {
            assert_eq!(utc(day(date).unwrap()), begins, "{date}");
        }
        assert_eq!(day("yesterday"), None);
    }

    /// Expected by GNU date, `date -u -d @N`.
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_625_046, "2026-11-25T16:44:06Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(Timestamp::from_second(seconds).unwrap()), date);
        }
    }
}
