//! Samples, their medians, and tables of them.

use std::time::Duration;

/// Durations of one thing done many times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// One more.
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The value that a share of the samples does not exceed; zero without samples.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        // The share is within 0 and 1, so the place is within the samples.
        let place = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(place).copied().unwrap_or_default()
    }

    /// The middle one.
    pub(crate) fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// `median [min..p99] of n`, in milliseconds.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} ms [{}..{}], {} samples",
            milliseconds(self.median()),
            milliseconds(self.quantile(0.0)),
            milliseconds(self.quantile(0.99)),
            self.0.len()
        )
    }
}

/// With three significant places.
pub(crate) fn milliseconds(duration: Duration) -> String {
    let value = duration.as_secs_f64() * 1e3;
    if value < 10.0 { format!("{value:.3}") } else { format!("{value:.1}") }
}

/// `a / b` as text.
pub(crate) fn ratio(a: Duration, b: Duration) -> String {
    format!("{:.3}", a.as_secs_f64() / b.as_secs_f64())
}

/// One line of a report: what, how much, and the target it is held against.
pub(crate) fn row(what: &str, value: impl std::fmt::Display, target: &str) {
    println!("| {what} | {value} | {target} |");
}

/// Begins a table.
pub(crate) fn begin(title: &str) {
    println!("\n## {title}\n\n| what | measured | target |\n|---|---|---|");
}
