//! The hash over everything that happened in a run, in order: two runs with the same hash did the same. And, when somebody
//! reads along, the story: one line for each thing worth telling.

/// Of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// Some while somebody reads along.
    lines: Option<Vec<String>>,
}

impl Trace {
    /// `told`: keep lines too, which makes a run slow.
    pub fn new(told: bool) -> Self {
        Self { hash: 0x51_7C_C1_B7_27_22_0A_95, lines: told.then(Vec::new) }
    }

    /// Takes a value in.
    pub fn add(&mut self, value: u64) {
        let mixed = (self.hash ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hash = mixed ^ (mixed >> 29);
    }

    /// Of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// True if lines are kept.
    pub fn is_told(&self) -> bool {
        self.lines.is_some()
    }

    /// A line, made only if lines are kept.
    pub fn tell(&mut self, at: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>11.3} ms  {}", Millis(at), line()));
        }
    }

    /// The lines so far.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// Microseconds, printed as milliseconds.
struct Millis(u64);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
