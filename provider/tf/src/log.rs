//! Log lines as Terraform reads them: one JSON object per line on stderr, which `TF_LOG` shows with level and fields.
//!
//! Terraform crashes on a line whose `@level`, `@message` or `@timestamp` is no string, so no other field may have such a
//! name. Lines are kept below the 64 KiB at which it cuts them.

use std::backtrace::Backtrace;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// Characters of the longest text of one field.
const MAX_TEXT: usize = 4 * 1024;

/// Starts logging as far as the user wants any, and reports panics so that Terraform shows them.
pub(crate) fn init(provider: &str, address: &'static str, crates: &'static [&'static str]) {
    std::panic::set_hook(Box::new(|panic| report_panic(&plain::text(&panic.to_string()))));
    let level = wanted_level(provider, |name| std::env::var(name).ok());
    if level == LevelFilter::OFF {
        return;
    }
    let subscriber = tracing_subscriber::registry().with(Lines { level, address, crates });
    // Only a second call fails, and then the first one's subscriber stays.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// The first variable that is set decides, the most special first. Its words mean what they mean to Terraform: `JSON` is
/// everything, and so is any word that Terraform does not know.
fn wanted_level(provider: &str, variable: impl Fn(&str) -> Option<String>) -> LevelFilter {
    let special = format!("TF_LOG_PROVIDER_{}", provider.to_uppercase());
    let value = [special.as_str(), "TF_LOG_PROVIDER", "TF_LOG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    match value.unwrap_or_default().to_uppercase().as_str() {
        "" | "OFF" => LevelFilter::OFF,
        "DEBUG" => LevelFilter::DEBUG,
        "INFO" => LevelFilter::INFO,
        "WARN" => LevelFilter::WARN,
        "ERROR" => LevelFilter::ERROR,
        _ => LevelFilter::TRACE,
    }
}

/// Plain lines that begin with `panic: ` are what Terraform prints as a crashed plugin's stack trace.
fn report_panic(message: &str) {
    write_line(&format!("panic: {message}\n\n{}", Backtrace::force_capture()));
}

/// One write per line, so that threads do not mix. When nobody reads any more there is nobody to tell.
fn write_line(line: &str) {
    let whole = format!("{line}\n");
    drop(std::io::stderr().lock().write_all(whole.as_bytes()));
}

/// Turns events into lines.
struct Lines {
    level: LevelFilter,
    address: &'static str,
    crates: &'static [&'static str],
}

/// The fields of a span, for every line within.
struct SpanFields(Map<String, Json>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let krate = metadata.target().split("::").next().unwrap_or_default();
        // Below warnings others speak of bytes and headers, secrets included.
        let own = krate == env!("CARGO_CRATE_NAME") || self.crates.contains(&krate);
        let level = if own { self.level } else { self.level.min(LevelFilter::WARN) };
        *metadata.level() <= level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = cx.span(id) {
            span.extensions_mut().insert(SpanFields(fields.0));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = cx.span(id)
            && let Some(known) = span.extensions_mut().get_mut::<SpanFields>()
        {
            known.0.append(&mut fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        let mut fields = Fields::default();
        fields.0.insert("tf_provider_addr".to_owned(), self.address.into());
        for span in cx.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(outer)) = span.extensions().get() {
                fields.0.extend(outer.clone());
            }
        }
        event.record(&mut fields);
        write_line(&line(event.metadata(), fields.0, SystemTime::now()));
    }
}

fn line(metadata: &Metadata<'_>, mut fields: Map<String, Json>, now: SystemTime) -> String {
    let message = fields.remove("message").and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default();
    fields.retain(|name, value| !(name.is_empty() || value == ""));
    fields.insert("@level".to_owned(), metadata.level().as_str().to_lowercase().into());
    fields.insert("@message".to_owned(), message.into());
    fields.insert("@timestamp".to_owned(), timestamp(now).into());
    fields.insert("@module".to_owned(), metadata.target().replace("::", ".").into());
    Json::Object(fields).to_string()
}

/// UTC with exactly six fraction digits.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

/// Year, month and day of a number of days since 1970. Source: "chrono-Compatible Low-Level Date Algorithms", H. Hinnant.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

/// Collects the fields of an event or span.
#[derive(Default)]
struct Fields(Map<String, Json>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Json>) {
        let name = field.name();
        let name = if name.starts_with('@') { format!("_{name}") } else { name.to_owned() };
        self.0.insert(name, value.into());
    }

    /// What others said is shown by Terraform as it comes, on a terminal.
    fn put_text(&mut self, field: &Field, text: &str) {
        self.put(field, plain::short(&plain::text(text), MAX_TEXT).into_owned());
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put_text(field, &crate::diagnostic::chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Fails only if the value's own Debug does.
        if write!(text, "{value:?}").is_ok() {
            self.put_text(field, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_special_variable_decides() {
        let level = |set: &[(&str, &str)]| {
            wanted_level("groundwork", |name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(level(&[]), LevelFilter::OFF);
        assert_eq!(level(&[("TF_LOG", "json")]), LevelFilter::TRACE);
        assert_eq!(level(&[("TF_LOG", "TRACE"), ("TF_LOG_PROVIDER", "warn")]), LevelFilter::WARN);
        assert_eq!(level(&[("TF_LOG_PROVIDER_GROUNDWORK", "off"), ("TF_LOG", "TRACE")]), LevelFilter::OFF);
        assert_eq!(level(&[("TF_LOG_PROVIDER", ""), ("TF_LOG", "info")]), LevelFilter::INFO);
    }

    #[test]
    fn a_word_that_terraform_does_not_know_shows_everything() {
        for word in ["1", "true", "TRACE ", "verbose"] {
            let variable = |name: &str| (name == "TF_LOG").then(|| word.to_owned());
            assert_eq!(wanted_level("groundwork", variable), LevelFilter::TRACE, "{word}");
        }
    }

    #[test]
    fn a_timestamp_has_six_digits() {
        let at = |seconds, micros| UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
        assert_eq!(timestamp(at(0, 0)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(timestamp(at(951_782_400, 1)), "2000-02-29T00:00:00.000001Z");
        assert_eq!(timestamp(at(1_772_323_199, 999_999)), "2026-02-28T23:59:59.999999Z");
    }
}
