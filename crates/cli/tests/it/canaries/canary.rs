//! Values that nobody may ever be told, and the search for them. It shares nothing with the program's own scrubber.

/// A value and what it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Canary {
    pub(crate) name: &'static str,
    pub(crate) value: &'static str,
}

macro_rules! canaries {
    ($($constant:ident = $value:literal, $name:literal;)*) => {
        $(pub(crate) const $constant: &str = $value;)*
        pub(crate) const CANARIES: &[Canary] = &[$(Canary { name: $name, value: $value }),*];
    };
}

// Secrets hold what URLs, JSON and base64 treat in different ways; all of them are distinct in every part.
canaries! {
    SOURCE_PASSWORD = "Tukan/4711?=ö\"q", "the password of the source's role";
    WAREHOUSE_PASSWORD = "Kasuar 0815+%41~", "the password of the warehouse's role";
    FILE_PASSWORD = "Pirol\\9021>>?", "a password in a credentials file";
    VARIABLE_PASSWORD = "Zeisig#6610&x", "a password in a variable with credentials";
    CONFIG_PASSWORD = "Wiedehopf-5518", "a password in starlift.toml";
    FLAG_PASSWORD = "Rohrdommel_7734", "a password in a flag";
    ACCESS_KEY = "AKIAEISVOGELCANARY20", "the access key of the store";
    SECRET_KEY = "gimpel/Secret+Key/4u8Zr0q", "the secret key of the store";
    SESSION_TOKEN = "FwoGZXIvYXdzELSTER//8rNq+tok==", "the session token of the store";
    ROW_TEXT = "Goldammer Ottokar", "a text in a row";
    ROW_MAIL = "kleiber@canary.example", "a unique text in a row";
    ROW_JSON = "Dompfaff-in-json", "a value in a document of a row";
    ROW_BYTES = "Neuntoeter-bytes", "bytes in a row";
    ROW_NUMBER = "7319054881.2519", "a number in a row";
    ROW_AMOUNT = "918273645.55", "an amount in a fact";
    ROW_DATE = "1987-03-29", "a date in a row";
    ROW_ARRAY = "Wendehals-in-array", "an element of an array in a row";
    ROW_LABEL = "Schwarzspecht", "a text in a fact";
    REFUSED_NUMBER = "6.28318530717958647692", "a number that ingest refuses";
    REFUSED_TEXT = "31.Feb-Haubentaucher", "a text that a strict function refuses";
    KEY_NEIGHBOUR = "Feldlerche beside a key", "a text beside a refused key";
    EVENT_VALUE = "Mauersegler-event", "a value in an event";
    SEED_VALUE = "Bachstelze-seed", "a value in a seed";
    PANIC_VALUE = "Rotkehlchen-panic", "a value in the message of a panic";
}

/// The forms in which a value may be said.
fn forms(value: &str) -> Vec<(&'static str, String)> {
    let bytes = value.as_bytes();
    let percent = |keep: &dyn Fn(u8) -> bool, upper: bool| -> String {
        let encode = |byte: &u8| match (keep(*byte), upper) {
            (true, _) => char::from(*byte).to_string(),
            (_, true) => format!("%{byte:02X}"),
            (_, false) => format!("%{byte:02x}"),
        };
        bytes.iter().map(encode).collect()
    };
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let lenient = |byte: u8| unreserved(byte) || b"!$&'()*+,;=:".contains(&byte);
    let json = serde_json::Value::from(value).to_string();
    let mut forms = vec![
        ("plain", value.to_string()),
        ("in JSON", json[1..json.len() - 1].to_string()),
        ("percent-encoded", percent(&unreserved, true)),
        ("percent-encoded in small letters", percent(&unreserved, false)),
        ("percent-encoded where it must be", percent(&lenient, true)),
        ("as a form encodes it", percent(&unreserved, true).replace("%20", "+")),
        ("hexadecimal", bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    ];
    // Without what depends on the padding and on neighbours.
    for (name, last) in [("base64", "+/"), ("URL-safe base64", "-_")] {
        let encoded = base64(bytes, last);
        forms.push((name, encoded[..bytes.len() * 8 / 6].to_string()));
    }
    forms
}

fn base64(bytes: &[u8], last: &str) -> String {
    let letters = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(last.chars());
    let alphabet: Vec<char> = letters.collect();
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    bits.chunks(6).map(|six| alphabet[(0..6).fold(0, |n, i| n * 2 + usize::from(*six.get(i).unwrap_or(&0)))]).collect()
}

/// Every canary in a text, as `name (form)`.
pub(crate) fn found_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for canary in CANARIES {
        for (form, said) in forms(canary.value) {
            if text.contains(&said) {
                found.push(format!("{} ({form})", canary.name));
            }
        }
    }
    found
}

#[test]
fn a_canary_is_found_in_every_form() {
    assert!(CANARIES.len() >= 20);
    let planted = "x:Tukan/4711?=ö\"q";
    for text in [
        "password Tukan/4711?=ö\"q",
        "{\"password\":\"Tukan/4711?=ö\\\"q\"}",
        "postgres://u:Tukan%2F4711%3F%3D%C3%B6%22q@h",
        "postgres://u:Tukan%2f4711%3f%3d%c3%b6%22q@h",
        "postgres://u:Tukan%2F4711%3F=%C3%B6%22q@h",
        "VHVrYW4vNDcxMT89w7YicQ==",
        "\\x54756b616e2f343731313f3dc3b62271",
    ] {
        assert!(found_in(text).iter().any(|name| name.starts_with("the password of the source")), "{text}");
    }
    assert_eq!(found_in(&planted[..8]), [""; 0]);
    assert_eq!(base64(b"foob", "+/"), "Zm9vYg");
    for canary in CANARIES {
        for (form, said) in forms(canary.value) {
            assert!(!found_in(&format!("a {said} b")).is_empty(), "{} {form}", canary.name);
        }
    }
}
