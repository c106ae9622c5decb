//! Lines and how they look. Colours never carry meaning alone: every line says in words and signs what it is.

use jiff::tz::TimeZone;

use crate::api::v1alpha1::Time;

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// The first line of the story.
    Title,
    /// It went well.
    Good,
    /// It stopped something, or went wrong.
    Bad,
    /// It asks for attention.
    Warn,
    /// What matters most among details.
    Strong,
    /// Detail.
    Quiet,
}

/// One line of the story.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When and who; absent for a line that belongs to the one above it.
    pub stamp: Option<Stamp>,
    /// What.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

/// When something happened, and who did it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamp {
    /// When.
    pub at: Time,
    /// Seconds since the first alert was received.
    pub since: f64,
    /// Who.
    pub actor: &'static str,
}

/// Width of time, elapsed seconds and actor.
const MARGIN: usize = 36;

/// How lines are written.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With ANSI colours.
    pub colours: bool,
}

impl Style {
    /// The line as it is written. Control characters are taken out: facts carry text from logs and labels, which
    /// must not be able to move the cursor of whoever reads it.
    pub fn render(self, line: &Line) -> String {
        let text: String = line.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = self.paint(line.tone, text.trim_end());
        match &line.stamp {
            None if line.tone == Tone::Title => text,
            None => format!("{:MARGIN$}  {text}", ""),
            Some(stamp) => {
                let time = stamp.at.to_zoned(TimeZone::UTC).strftime("%H:%M:%S%.3f").to_string();
                let since = format!("{:+.1}s", stamp.since);
                let margin = format!("{time} {since:>9}  {:<12}", stamp.actor);
                format!("{}  {text}", self.paint(Tone::Quiet, &margin))
            }
        }
    }

    fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.colours => return text.to_string(),
            Tone::Plain => return text.to_string(),
            Tone::Title | Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
            Tone::Quiet => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
