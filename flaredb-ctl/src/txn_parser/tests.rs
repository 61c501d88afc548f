//! Good and bad transactions, as tables.

use flaredb_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use super::*;

fn compare(text: &str) -> (CompareTarget, Vec<u8>, CompareResult, TargetUnion) {
    let parsed = parse_compare(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    (parsed.target(), parsed.key.to_vec(), parsed.result(), parsed.target_union.unwrap())
}

#[test]
fn compares_that_hold_together() {
    use CompareResult as R;
    use CompareTarget as T;
    use TargetUnion as U;
    let table: [(&str, T, &[u8], R, U); 16] = [
        (r#"mod("key1") > "0""#, T::Mod, b"key1", R::Greater, U::ModRevision(0)),
        (r#"m("key1") > "0""#, T::Mod, b"key1", R::Greater, U::ModRevision(0)),
        (r#"create("k") = "0""#, T::Create, b"k", R::Equal, U::CreateRevision(0)),
        (r#"c("k") < "7""#, T::Create, b"k", R::Less, U::CreateRevision(7)),
        (r#"version("k") != "1""#, T::Version, b"k", R::NotEqual, U::Version(1)),
        (r#"ver("k") = "-1""#, T::Version, b"k", R::Equal, U::Version(-1)),
        (r#"value("k") = "a b""#, T::Value, b"k", R::Equal, U::Value("a b".into())),
        (r#"val("k") > """#, T::Value, b"k", R::Greater, U::Value("".into())),
        (r#"lease("k") = "ff""#, T::Lease, b"k", R::Equal, U::Lease(255)),
        (r#"  value( "k" )="x"  "#, T::Value, b"k", R::Equal, U::Value("x".into())),
        ("version(k) = 1", T::Version, b"k", R::Equal, U::Version(1)),
        ("value('it\\n') = 'a\"b'", T::Value, b"it\\n", R::Equal, U::Value("a\"b".into())),
        ("value(`a`) = `b`", T::Value, b"a", R::Equal, U::Value("b".into())),
        (
            r#"value("\x00\xff\"\\\101\u00e9") = "\n""#,
            T::Value,
            b"\0\xff\"\\A\xc3\xa9",
            R::Equal,
            U::Value("\n".into()),
        ),
        (r#"value("a)b") = "c""#, T::Value, b"a)b", R::Equal, U::Value("c".into())),
        (r#"value("") = "c""#, T::Value, b"", R::Equal, U::Value("c".into())),
    ];
    for (text, target, key, result, union) in table {
        assert_eq!(compare(text), (target, key.to_vec(), result, union), "{text}");
    }
}

#[test]
fn compares_that_do_not_say_why() {
    let table = [
        ("foo(\"k\") = \"1\"", "it begins with mod, create, version, value or lease"),
        ("put a b", "this is an operation; the compares come first and end with an empty line"),
        ("mod \"k\" = \"1\"", "the key stands in parentheses"),
        ("mod(\"k\" = \"1\"", "the closing parenthesis is missing"),
        ("mod(k", "the closing parenthesis is missing"),
        ("mod(\"k\") \"1\"", "between key and value stands one of = != < >"),
        ("mod(\"k\") >= \"1\"", "between key and value stands one of = != < >"),
        ("mod(\"k\") == \"1\"", "between key and value stands one of = != < >"),
        ("mod(\"k\") =", "the value is missing"),
        ("mod(\"k\") = \"1\" x", "there is something after the value"),
        ("mod(\"k\") = \"x\"", "\"x\" is not a number"),
        ("version(\"k\") = \"9223372036854775808\"", "\"9223372036854775808\" is not a number"),
        ("lease(\"k\") = \"xyz\"", "not a lease id: \"xyz\"; lease ids are hexadecimal, like 694d71ddacfda227"),
    ];
    for (text, why) in table {
        let expected = format!("not a compare: {text}: {why}");
        assert_eq!(parse_compare(text.as_bytes()).unwrap_err(), ParseError::Malformed(expected), "{text}");
    }
    assert_eq!(parse_compare(b"mod(\"k").unwrap_err(), ParseError::OpenQuote);
    assert_eq!(parse_compare(b"mod(\"k\\").unwrap_err(), ParseError::OpenQuote);
}

fn op(text: &str) -> Request {
    parse_op(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}")).request.unwrap()
}

#[test]
fn operations_take_the_flags_of_the_command_line() {
    let put = |key: &'static [u8], value: &'static [u8]| PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    let table = [
        ("put hello world", Request::RequestPut(put(b"hello", b"world"))),
        (r#"put "a b" "c\td""#, Request::RequestPut(put(b"a b", b"c\td"))),
        ("put k 'x \\n \" y'", Request::RequestPut(put(b"k", b"x \\n \" y"))),
        ("put k it's", Request::RequestPut(put(b"k", b"it's"))),
        ("put k \"\\xff\\x00\"", Request::RequestPut(put(b"k", b"\xff\x00"))),
        ("put k \"\"", Request::RequestPut(put(b"k", b""))),
        ("put k -", Request::RequestPut(put(b"k", b"-"))),
        ("put k -5", Request::RequestPut(put(b"k", b"-5"))),
        ("put -- -k --v", Request::RequestPut(put(b"-k", b"--v"))),
        (
            "put k v --prev-kv --lease ff",
            Request::RequestPut(PutRequest { prev_kv: true, lease: 255, ..put(b"k", b"v") }),
        ),
        ("put k --ignore-value", Request::RequestPut(PutRequest { ignore_value: true, ..put(b"k", b"") })),
        ("get k", Request::RequestRange(RangeRequest { key: "k".into(), ..RangeRequest::default() })),
        (
            "get --prefix k --limit=3 --serializable",
            Request::RequestRange(RangeRequest {
                key: "k".into(),
                range_end: "l".into(),
                limit: 3,
                serializable: true,
                ..RangeRequest::default()
            }),
        ),
        (
            "del a z --prev-kv",
            Request::RequestDeleteRange(DeleteRangeRequest { key: "a".into(), range_end: "z".into(), prev_kv: true }),
        ),
    ];
    for (text, request) in table {
        assert_eq!(op(text), request, "{text}");
    }
}

#[test]
fn operations_that_cannot_be_done_say_why() {
    let table = [
        ("put k", "put needs a key and a value"),
        ("put", "the following required arguments were not provided: <KEY>"),
        ("put k v w", "unexpected argument 'w' found"),
        ("mov k v", "unrecognized subcommand 'mov'"),
        ("get k --prefix --from-key", "the argument '--prefix' cannot be used with '--from-key'"),
        ("put k \"\\q\"", "unknown escape \\q in double quotes; write \\\\"),
        ("put k \"\\xg0\"", "\\x takes two hexadecimal digits"),
        ("put k \"\\ud800\"", "\\u takes four and \\U eight hexadecimal digits of a character"),
        ("put k \"\\777\"", "\\377 is the largest octal escape"),
    ];
    for (text, why) in table {
        assert_eq!(parse_op(text.as_bytes()).unwrap_err().to_string(), why, "{text}");
    }
    assert_eq!(parse_op(b"put k 'v").unwrap_err(), ParseError::OpenQuote);
}

fn counts(text: &str) -> (usize, usize, usize) {
    let txn = read_txn(text.as_bytes(), None).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    (txn.compare.len(), txn.success.len(), txn.failure.len())
}

#[test]
fn parts_end_at_an_empty_line_or_at_the_end() {
    let table = [
        ("mod(\"k\") > \"0\"\n\nput a b\nput c d\n\nget a\n\n", (1, 2, 1)),
        ("mod(\"k\") > \"0\"\n\nput a b\n\nget a", (1, 1, 1)),
        ("mod(\"k\") > \"0\"\r\n\r\nput a b\r\n\r\n", (1, 1, 0)),
        ("\nput a b\n", (0, 1, 0)),
        ("\n\nget a\n", (0, 0, 1)),
        ("", (0, 0, 0)),
        ("mod(\"k\") > \"0\"\n  \t \nput a 'x\n\ny'\n\nget a\nget b\n\nafter the end", (1, 1, 2)),
    ];
    for (text, expected) in table {
        assert_eq!(counts(text), expected, "{text:?}");
    }
}

#[test]
fn a_quoted_value_may_run_over_lines() {
    let txn = read_txn("\nput k \"one\n  two\n\nthree\"\n".as_bytes(), None).unwrap();
    let Some(Request::RequestPut(put)) = txn.success[0].request.clone() else { panic!("a put") };
    assert_eq!(put.value, "one\n  two\n\nthree");
}

#[test]
fn errors_name_the_line() {
    let table = [
        ("mod(\"k\") > \"0\"\n\nput a b\nputt c d\n", "line 4: unrecognized subcommand 'putt'"),
        (
            "put a b\n",
            "line 1: not a compare: put a b: this is an operation; the compares come first and end with an empty line",
        ),
        ("\nput a 'b\nc\n", "line 2: a quote is opened and never closed"),
        ("\nput a 'b\nc' d e\n", "line 2: unexpected argument 'd' found"),
    ];
    for (text, why) in table {
        assert_eq!(read_txn(text.as_bytes(), None).unwrap_err(), why, "{text:?}");
    }
}

#[test]
fn prompts_stand_before_each_part() {
    let mut prompts = Vec::new();
    read_txn("\n\n\n".as_bytes(), Some(&mut prompts)).unwrap();
    let expected = "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\n";
    assert_eq!(String::from_utf8(prompts).unwrap(), expected);
}
