//! Recurring windows of time.

use croner::{
    Cron, Weekday,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Zoned, civil::Date, tz::TimeZone};

use crate::api::v1alpha1::{self, Time, WindowKind};

/// A window whose schedule and time zone were parsed.
#[derive(Debug)]
pub(super) struct Window {
    /// Whether it allows or denies.
    pub kind: WindowKind,
    cron: Cron,
    zone: TimeZone,
    length: SignedDuration,
}

impl Window {
    /// Parses `window`, or names the field that is wrong.
    pub(super) fn of(window: &v1alpha1::Window) -> Result<Window, String> {
        // Years and seconds are no part of the format. With a year, a search that finds nothing goes back to year 1.
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron =
            parser.parse(&window.schedule).map_err(|error| format!("schedule `{}`: {error}", window.schedule))?;
        let zone = if window.time_zone.is_empty() { "UTC" } else { window.time_zone.as_str() };
        let zone = TimeZone::get(zone).map_err(|error| format!("timeZone `{zone}`: {error}"))?;
        let length = SignedDuration::from_secs(window.duration_seconds.into());
        Ok(Window { kind: window.kind, cron, zone, length })
    }

    /// Whether it is open at `now`, or why that cannot be told.
    pub(super) fn is_open(&self, now: Time) -> Result<bool, String> {
        let here = now.to_zoned(self.zone.clone());
        if !self.begins_on_a_day_near(&here)? {
            return Ok(false);
        }
        let start = self.cron.find_previous_occurrence(&here, true).map_err(|error| error.to_string())?;
        Ok(now.duration_since(start.timestamp()) < self.length)
    }

    /// Whether any day on which it could have begun and still be open is a day of its schedule, on which its hour has come.
    /// Without this question a schedule that never comes, such as 31 February, is searched for through two thousand years
    /// with each decision, and one that comes later today through the years until it last did.
    fn begins_on_a_day_near(&self, here: &Zoned) -> Result<bool, String> {
        let days = self.length.as_hours() / 24 + 1;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut day = here.date();
        let hours = 0..=u32::from(here.hour().unsigned_abs());
        let come = |hour| self.cron.pattern.hour_match(hour).map_err(|error| text(&error));
        if self.has_day(day).map_err(|error| text(&error))?
            && hours.map(come).collect::<Result<Vec<_>, _>>()?.contains(&true)
        {
            return Ok(true);
        }
        for _ in 0..days {
            day = day.yesterday().map_err(|error| text(&error))?;
            if self.has_day(day).map_err(|error| text(&error))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_day(&self, day: Date) -> Result<bool, croner::errors::CronError> {
        let (year, month, of_month) = (day.year().into(), day.month().unsigned_abs(), day.day().unsigned_abs());
        let weekday = match day.weekday() {
            jiff::civil::Weekday::Sunday => Weekday::Sunday,
            jiff::civil::Weekday::Monday => Weekday::Monday,
            jiff::civil::Weekday::Tuesday => Weekday::Tuesday,
            jiff::civil::Weekday::Wednesday => Weekday::Wednesday,
            jiff::civil::Weekday::Thursday => Weekday::Thursday,
            jiff::civil::Weekday::Friday => Weekday::Friday,
            jiff::civil::Weekday::Saturday => Weekday::Saturday,
        };
        let pattern = &self.cron.pattern;
        Ok(pattern.month_match(month.into())? && pattern.day_match(year, month.into(), of_month.into(), weekday)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(schedule: &str, zone: &str, seconds: i32) -> Window {
        let (schedule, time_zone) = (schedule.into(), zone.into());
        Window::of(&v1alpha1::Window { kind: WindowKind::Deny, schedule, duration_seconds: seconds, time_zone })
            .unwrap()
    }

    fn open(schedule: &str, zone: &str, seconds: i32, now: &str) -> bool {
        window(schedule, zone, seconds).is_open(now.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_start_until_its_length_has_passed() {
        for (schedule, zone, seconds, now, expected) in [
            ("0 9 * * *", "UTC", 3600, "2026-11-20T08:59:59Z", false),
            ("0 9 * * *", "UTC", 3600, "2026-11-20T09:00:00Z", true),
            ("0 9 * * *", "UTC", 3600, "2026-11-20T09:59:59Z", true),
            ("0 9 * * *", "UTC", 3600, "2026-11-20T10:00:00Z", false),
            // Over midnight, over a weekend, and a week long.
            ("0 22 * * 5", "Europe/Berlin", 60 * 3600, "2026-11-22T10:00:00Z", true),
            ("0 22 * * 5", "Europe/Berlin", 60 * 3600, "2026-11-23T09:00:00Z", false),
            ("0 0 13 * *", "UTC", 604_800, "2026-11-19T23:59:59Z", true),
            ("0 0 13 * *", "UTC", 604_800, "2026-11-20T00:00:00Z", false),
            // The day of the zone, not that of UTC.
            ("30 23 * * 5", "Pacific/Auckland", 1800, "2026-11-20T10:45:00Z", true),
            ("30 0 * * 6", "Pacific/Auckland", 1800, "2026-11-20T11:45:00Z", true),
            ("30 23 * * 4", "Pacific/Honolulu", 1800, "2026-11-20T09:45:00Z", true),
            // Not yet today; a year ago yes.
            ("0 12 20 11 *", "UTC", 3600, "2026-11-20T11:00:00Z", false),
            ("0 0 29 2 *", "UTC", 3600, "2026-11-20T11:00:00Z", false),
            ("0 0 29 2 *", "UTC", 3600, "2028-02-29T00:30:00Z", true),
            ("0 0 31 2 *", "UTC", 604_800, "2026-03-01T00:00:00Z", false),
        ] {
            assert_eq!(open(schedule, zone, seconds, now), expected, "{schedule} {zone} {seconds} at {now}");
        }
    }

    #[test]
    fn asking_for_the_day_first_changes_no_answer() {
        let schedules = ["*/7 * * * *", "0 2 * * *", "30 2 29 3 *", "0 0 L * *", "0 12 * * 1#2", "15 3 1,15 * 3"];
        for schedule in schedules {
            for zone in ["UTC", "Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe"] {
                for seconds in [60, 3600, 86_400, 604_800] {
                    let window = window(schedule, zone, seconds);
                    for step in 0..600 {
                        let now = Time::from_second(1_774_000_000 + step * 54_321).unwrap();
                        let here = now.to_zoned(window.zone.clone());
                        let start = window.cron.find_previous_occurrence(&here, true).unwrap();
                        let expected = now.duration_since(start.timestamp()) < window.length;
                        assert_eq!(window.is_open(now), Ok(expected), "{schedule} {zone} {seconds} at {now}");
                    }
                }
            }
        }
    }

    /// Times only inform, but for this: what comes once in many years takes no longer to tell than what comes each day.
    #[test]
    fn a_schedule_that_comes_later_today_is_not_searched_for_through_the_years() {
        let ask = |schedule: &str, now: &str| {
            let (window, now) = (window(schedule, "UTC", 3600), now.parse().unwrap());
            let once = || {
                let began = std::time::Instant::now();
                let _ = std::hint::black_box(window.is_open(now));
                began.elapsed()
            };
            (0..20).map(|_| once()).min().unwrap()
        };
        let daily = ask("0 * * * *", "2028-02-29T11:30:00Z");
        let seldom = ask("0 23 29 2 *", "2028-02-29T11:30:00Z");
        println!("each hour {daily:?}, in eight years {seldom:?}");
        assert!(seldom <= daily * 20, "{seldom:?} beside {daily:?}");
    }

    #[test]
    fn a_schedule_has_five_fields() {
        for schedule in ["0 59 23 26 11 * 2026", "0 0 9 * * *", "@hourly extra", "9 * * *", ""] {
            let spec = v1alpha1::Window {
                kind: WindowKind::Deny,
                schedule: schedule.into(),
                duration_seconds: 60,
                time_zone: String::new(),
            };
            let error = Window::of(&spec).unwrap_err();
            assert!(error.starts_with("schedule `"), "{error}");
        }
    }
}
