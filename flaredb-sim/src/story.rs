//! A run on one page: who did what, which faults there were, and the messages right before the end.

/// Lines of the page, about.
const PAGE: usize = 60;
/// The last lines are kept whole, messages included.
const LAST: usize = 30;

/// Picks the lines of a told run that fit on a page.
pub fn page(lines: &[String]) -> Vec<String> {
    let (earlier, last) = lines.split_at(lines.len().saturating_sub(LAST));
    // Of what was long ago only what happened to nodes and links, and the clients.
    let mut kept: Vec<&String> = earlier.iter().filter(|line| !is_message(line)).collect();
    let room = PAGE.saturating_sub(LAST);
    let mut page = Vec::with_capacity(PAGE + 1);
    if kept.len() > room {
        let begin: Vec<&String> = kept.drain(..room / 3).collect();
        let left_out = kept.len().saturating_sub(room - room / 3);
        page.extend(begin.into_iter().cloned());
        page.push(format!("             … {left_out} lines left out …"));
        kept.drain(..left_out);
    }
    page.extend(kept.into_iter().cloned());
    page.extend(last.iter().cloned());
    page
}

fn is_message(line: &str) -> bool {
    line.contains("-> n") && line.contains(": ") && !line.contains("partition (")
}

#[cfg(test)]
mod tests {
    use super::{PAGE, page};

    #[test]
    fn a_page_has_the_end_and_what_happened_to_nodes() {
        let mut lines: Vec<String> = (0..500).map(|n| format!("{n} n1@1 -> n2: TimeoutNow")).collect();
        lines[3] = "3 n2 crashes".to_owned();
        let page = page(&lines);
        assert!(page.len() <= PAGE + 1);
        assert_eq!((page.first(), page.last()), (lines.get(3), lines.last()));
    }
}
