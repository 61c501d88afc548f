//! A run on one page: which faults there were, who led, what clients asked, and the messages right before the end.

use std::collections::BTreeMap;

/// Lines of the page.
const PAGE: usize = 50;
/// So many of the last lines are kept whatever they are, messages included.
const LAST: usize = 22;
/// A longer line is cut: contents of requests and messages matter less than that there was one.
const WIDTH: usize = 170;

/// How much a line of long ago matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// What happened to nodes, disks and links.
    Fault,
    /// Who came to lead.
    Leader,
    /// What clients asked and were told, who asked for votes.
    Course,
    Message,
}

/// Picks the lines of a told run that fit on a page.
pub fn page(lines: &[String]) -> Vec<String> {
    let lines = fold(lines);
    let tail = lines.len().saturating_sub(LAST);
    let mut room = PAGE.min(lines.len()) - lines.len().min(LAST);
    let mut keeps: Vec<bool> = (0..lines.len()).map(|place| place >= tail).collect();
    for wanted in [Weight::Fault, Weight::Leader, Weight::Course] {
        // Of equals the later ones, as they are nearer to what went wrong.
        for (line, keeps) in lines.iter().zip(&mut keeps).take(tail).rev() {
            if room > 0 && weight(line) == wanted {
                *keeps = true;
                room -= 1;
            }
        }
    }
    let mut page = Vec::with_capacity(PAGE + 1);
    let left_out = keeps.iter().filter(|keeps| !**keeps).count();
    if left_out > 0 {
        page.push(format!("({left_out} lines are left out)"));
    }
    page.extend(lines.into_iter().zip(keeps).filter(|(_, keeps)| *keeps).map(|(line, _)| cut(line)));
    page
}

/// Messages that are sent again and again are told once, the last time.
fn fold(lines: &[String]) -> Vec<String> {
    let text = |line: &String| line.split_once(" ms  ").map_or_else(|| line.clone(), |(_, text)| text.to_owned());
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines.iter().filter(|line| weight(line) == Weight::Message) {
        *times.entry(text(line)).or_default() += 1;
    }
    let mut folded: Vec<String> = Vec::with_capacity(lines.len());
    for line in lines.iter().rev() {
        match times.get_mut(&text(line)) {
            // Told already, later.
            Some(0) => {}
            Some(count) => {
                let again = if *count > 1 { format!(" (and {} times before)", *count - 1) } else { String::new() };
                *count = 0;
                folded.push(format!("{}{again}", cut(line.clone())));
            }
            None => folded.push(line.clone()),
        }
    }
    folded.reverse();
    folded
}

fn weight(line: &str) -> Weight {
    if line.contains("-> n") && line.contains(": ") && !line.contains("partition (") {
        Weight::Message
    } else if line.contains(" is Leader (") {
        Weight::Leader
    } else if line.contains("  client ") || line.contains(" is Candidate (") || line.contains(" is Follower (") {
        Weight::Course
    } else {
        Weight::Fault
    }
}

fn cut(line: String) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE, page};

    #[test]
    fn a_page_has_the_end_and_what_happened_to_nodes() {
        let mut lines: Vec<String> = (0..500).map(|n| format!("{n} ms  n1@{n} -> n2: TimeoutNow")).collect();
        lines[3] = "3 ms  n2 crashes".to_owned();
        let page = page(&lines);
        assert!(page.len() <= PAGE + 1);
        assert_eq!((page.get(1), page.last()), (lines.get(3), lines.last()));
    }

    #[test]
    fn what_is_said_again_and_again_is_told_once() {
        let lines: Vec<String> = (0..500).map(|n| format!("{n} ms  n1@1 -> n2: TimeoutNow")).collect();
        assert_eq!(page(&lines), ["499 ms  n1@1 -> n2: TimeoutNow (and 499 times before)"]);
    }
}
