//! Dates and times of the generator as plain numbers: days and milliseconds since 1970-01-01, UTC.

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// The day of a date of the Gregorian calendar.
pub(crate) const fn day_of(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from March, so that the leap day is a year's last: the usual era arithmetic.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month (1..=12) and day (1..=31) of a day.
pub(crate) const fn date_of(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

/// Monday is 0, Sunday is 6.
pub(crate) const fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

/// The `n`th working day (Monday to Friday) after `day`; `day` itself for 0 if it is one.
pub(crate) const fn working_day_after(day: i64, n: i64) -> i64 {
    // Counted from the Monday of the week; a weekend counts as its Friday.
    let position = if weekday(day) > 4 { 4 } else { weekday(day) };
    let monday = day - weekday(day);
    let target = position + n;
    monday + target.div_euclid(5) * 7 + target.rem_euclid(5)
}

/// `YYYY-MM-DD`.
pub(crate) fn date_text(day: i64) -> String {
    let (year, month, day) = date_of(day);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `YYYY-MM-DD hh:mm:ss.fff`.
pub(crate) fn stamp_text(ms: i64) -> String {
    let (day, time) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (hours, minutes, seconds) = (time / 3_600_000, time / 60_000 % 60, time / 1000 % 60);
    format!("{} {hours:02}:{minutes:02}:{seconds:02}.{:03}", date_text(day), time % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_days_are_inverse_over_four_centuries() {
        assert_eq!(day_of(1970, 1, 1), 0);
        assert_eq!(day_of(2022, 11, 3), 19_299);
        assert_eq!(date_text(day_of(2024, 2, 28) + 1), "2024-02-29");
        for day in day_of(1900, 1, 1)..day_of(2300, 1, 1) {
            let (year, month, d) = date_of(day);
            assert_eq!(day_of(year, month, d), day);
        }
    }

    #[test]
    fn working_days_skip_weekends() {
        let friday = day_of(2025, 10, 31);
        assert_eq!(weekday(friday), 4);
        assert_eq!(date_text(working_day_after(friday, 1)), "2025-11-03");
        assert_eq!(date_text(working_day_after(friday, 6)), "2025-11-10");
        assert_eq!(date_text(working_day_after(friday + 1, 1)), "2025-11-03");
    }

    #[test]
    fn stamps_have_milliseconds() {
        assert_eq!(stamp_text(day_of(2022, 11, 3) * DAY_MS + 51_602_049), "2022-11-03 14:20:02.049");
    }
}
