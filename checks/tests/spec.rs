//! `docs/spec.md` maps each line of the specification to code and tests. Here: every line is mapped, and every test and
//! file it names exists.

use flaredb_checks::root;

fn spec() -> String {
    std::fs::read_to_string(root().join("docs/spec.md")).expect("docs/spec.md")
}

/// Rows of the mapping: (id, code column, tests column).
fn rows(text: &str) -> Vec<(String, String, String)> {
    text.lines()
        .filter(|line| line.starts_with("| S"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 4, "a row has four cells (id, line, code, tests): {line}");
            (cells[0].to_owned(), cells[2].to_owned(), cells[3].to_owned())
        })
        .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_line_of_the_specification_is_mapped() {
    let text = spec();
    let (specification, mapping) = text.split_once("## Mapping").expect("docs/spec.md has a section Mapping");
    let mut lines = 0;
    for line in specification.lines().filter(|line| line.trim_start().starts_with("- ") && line.contains('[')) {
        let id = line.rsplit_once('[').expect("an id at the end of the line").1.trim_end_matches(']');
        lines += 1;
        assert!(mapping.contains(&format!("| {id} |")), "{id} is not mapped: {line}");
    }
    assert_eq!(lines, 18, "5 entities with 3 lines each and 3 transitions");
}

#[test]
fn every_test_that_the_mapping_names_exists() {
    let text = spec();
    let rows = rows(&text);
    assert!(!rows.is_empty(), "docs/spec.md has rows");
    for (id, code, tests) in rows {
        for path in quoted(&code) {
            let file = path.split("::").next().expect("a path");
            assert!(root().join(file).exists(), "{id}: {file} does not exist");
        }
        let tests = quoted(&tests);
        assert!(!tests.is_empty(), "{id} names no test");
        for test in tests {
            // A golden script is its own test.
            let Some((file, name)) = test.split_once("::") else {
                assert!(root().join(&test).exists(), "{id}: {test} does not exist");
                continue;
            };
            let source =
                std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{id}: {file}: {error}"));
            let position =
                source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{id}: no fn {name} in {file}"));
            let attributes = source[..position].rsplit("\n\n").next().unwrap_or_default();
            assert!(
                attributes.contains("#[test]") || attributes.contains("::test"),
                "{id}: {name} in {file} is not a test"
            );
        }
    }
}
