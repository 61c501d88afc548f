//! `--initial-cluster`: `n1=http://host1:2380,n2=http://host2:2380,n3=http://host3:2380`.

use super::{ConfigError, Origin, url::Url};

/// The members in the order given: at least one, names and URLs unique, 3 of them or 1.
pub(super) fn parse(origin: &Origin, text: &str) -> Result<Vec<(String, Url)>, ConfigError> {
    let mut members: Vec<(String, Url)> = Vec::new();
    for entry in text.split(',') {
        let (name, url) = parse_entry(origin, entry.trim())?;
        if members.iter().any(|(other, _)| *other == name) {
            return Err(ConfigError::DuplicateName { origin: origin.clone(), name });
        }
        if let Some((first, _)) = members.iter().find(|(_, other)| *other == url) {
            let (first, url) = (first.clone(), url.to_string());
            return Err(ConfigError::DuplicateUrl { origin: origin.clone(), url, first, second: name });
        }
        members.push((name, url));
    }
    if members.len() != 3 && members.len() != 1 {
        return Err(ConfigError::VoterCount { origin: origin.clone(), count: members.len() });
    }
    Ok(members)
}

fn parse_entry(origin: &Origin, entry: &str) -> Result<(String, Url), ConfigError> {
    let bad = |wrong| ConfigError::ClusterEntry { origin: origin.clone(), entry: entry.to_owned(), wrong };
    if entry.is_empty() {
        return Err(bad("an entry is empty (a comma too many?)"));
    }
    let (name, url) = entry.split_once('=').ok_or_else(|| bad("the '=' between name and URL is missing"))?;
    let name = name.trim();
    if name.is_empty() {
        return Err(bad("the name before '=' is empty"));
    }
    let url = Url::parse(origin, url.trim())?;
    if let Some(wrong) = url.unreachable() {
        return Err(ConfigError::AdvertiseUnusable { origin: origin.clone(), url: url.to_string(), wrong });
    }
    Ok((name.to_owned(), url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(&Origin::Flag("initial-cluster"), text).unwrap_err().to_string()
    }

    #[test]
    fn three_members_and_one() {
        let origin = Origin::Flag("initial-cluster");
        assert_eq!(parse(&origin, "n1=http://a:2380, n2=http://b:2380,n3=http://c:2380").unwrap().len(), 3);
        assert_eq!(parse(&origin, "n1=http://a:2380").unwrap().len(), 1);
    }

    #[test]
    fn malformed_entries_say_what_is_wrong() {
        const EXAMPLE: &str = "write n1=http://host1:2380,n2=http://host2:2380,n3=http://host3:2380";
        for (text, entry, wrong) in [
            ("n1", "n1", "the '=' between name and URL is missing"),
            ("=http://a:1", "=http://a:1", "the name before '=' is empty"),
            ("n1=http://a:1,", "", "an entry is empty (a comma too many?)"),
        ] {
            assert_eq!(error(text), format!("--initial-cluster: {entry:?}: {wrong}; {EXAMPLE}"));
        }
        assert_eq!(error("n1=a:1"), "--initial-cluster: \"a:1\": the scheme is missing; write http://host:port");
        assert!(error("n1=https://a:1").contains("https is not supported yet"));
        assert_eq!(
            error("n1=http://0.0.0.0:2380"),
            "--initial-cluster: \"http://0.0.0.0:2380\": it stands for all addresses, so others cannot connect to it; \
             write the name or address of this machine"
        );
    }

    #[test]
    fn names_and_urls_are_unique() {
        assert_eq!(
            error("n1=http://a:1,n1=http://b:1,n3=http://c:1"),
            "--initial-cluster: the name \"n1\" is there twice; each member needs a name of its own and one URL"
        );
        assert_eq!(
            error("n1=http://a:1,n2=http://A:1,n3=http://c:1"),
            "--initial-cluster: \"n1\" and \"n2\" both have http://a:1; each member needs a peer URL of its own"
        );
    }

    #[test]
    fn only_three_voters_or_one() {
        for count in [2_usize, 4, 5] {
            let text: Vec<String> = (0..count).map(|number| format!("n{number}=http://h{number}:1")).collect();
            assert_eq!(
                error(&text.join(",")),
                format!(
                    "--initial-cluster: {count} members; a FlareDB cluster has a fixed set of 3 voters (1 works for \
                     development); name three members"
                )
            );
        }
    }
}
