//! The forms that a secret may take on its way into a text, and their places in one. Pure.

use std::borrow::Cow;
use std::ops::Range;

/// The fewest characters of a secret that is looked for.
pub const MIN_CHARS: usize = 4;
/// The fewest characters of a piece of base64 that is looked for: shorter ones stand in other words by chance.
const MIN_PIECE: usize = 8;
const STARS: &str = "***";

/// Finds secrets and puts stars in their place.
pub(super) struct Scrubber {
    secrets: Vec<String>,
    /// What is looked for.
    forms: Vec<String>,
}

impl Scrubber {
    pub(super) const fn new() -> Scrubber {
        Scrubber { secrets: Vec::new(), forms: Vec::new() }
    }

    /// Adds a secret that is not too short.
    pub(super) fn add(&mut self, secret: &str) {
        if secret.chars().count() < MIN_CHARS || self.secrets.iter().any(|known| known == secret) {
            return;
        }
        self.secrets.push(secret.to_string());
        self.forms.extend(forms(secret));
        self.forms.sort();
        self.forms.dedup();
    }

    pub(super) fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for form in &self.forms {
            found.extend(text.match_indices(form.as_str()).map(|(start, _)| start..start + form.len()));
        }
        if let Some(bytes) = percent_decoded(text) {
            let plain: Vec<u8> = bytes.iter().map(|decoded| decoded.byte).collect();
            for form in self.forms.iter().map(String::as_bytes) {
                let starts = (0..plain.len()).filter(|start| plain[*start..].starts_with(form));
                found.extend(starts.map(|start| bytes[start].from..bytes[start + form.len() - 1].to));
            }
        }
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_by_key(|range| range.start);
        let (mut clean, mut end) = (String::with_capacity(text.len()), 0);
        for range in found {
            if range.start >= end {
                clean.push_str(&text[end..range.start]);
                clean.push_str(STARS);
            }
            // What overlaps is under the same stars.
            end = end.max(range.end);
        }
        clean.push_str(&text[end..]);
        Cow::Owned(clean)
    }
}

/// A byte of a percent-encoded text, and where in the text it stands.
pub(super) struct Decoded {
    pub(super) byte: u8,
    from: usize,
    to: usize,
}

/// The bytes of a text with its percent-encoding undone, whatever of it was encoded; none where nothing was.
pub(super) fn percent_decoded(text: &str) -> Option<Vec<Decoded>> {
    if !text.contains('%') {
        return None;
    }
    let bytes = text.as_bytes();
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let (mut decoded, mut from) = (Vec::with_capacity(bytes.len()), 0);
    while from < bytes.len() {
        let pair = if bytes[from] == b'%' { digit(from + 1).zip(digit(from + 2)) } else { None };
        let (byte, to) = match pair {
            Some((high, low)) => ((high * 16 + low) as u8, from + 3),
            None => (bytes[from], from + 1),
        };
        decoded.push(Decoded { byte, from, to });
        from = to;
    }
    Some(decoded)
}

/// Every form of a secret but the percent-encoded ones, which are found by decoding the text.
fn forms(secret: &str) -> Vec<String> {
    let quoted = [serde_json::Value::from(secret).to_string(), format!("{secret:?}")];
    let escaped = quoted.iter().filter_map(|text| text.strip_prefix('"')?.strip_suffix('"')).map(str::to_string);
    let mut forms = vec![secret.to_string()];
    forms.extend(escaped);
    // As forms on web pages encode it.
    forms.push(secret.replace(' ', "+"));
    for alphabet in [STANDARD, URL_SAFE] {
        let encoded = base64(secret.as_bytes(), alphabet);
        let padding = "=".repeat(encoded.len().next_multiple_of(4) - encoded.len());
        forms.push(format!("{encoded}{padding}"));
        forms.push(encoded);
        forms.extend((0..3).map(|before| piece(secret, before, alphabet)).filter(|piece| piece.len() >= MIN_PIECE));
    }
    forms
}

/// The characters of base64 that depend on nothing but the secret, where so many bytes come before it (modulo 3).
fn piece(secret: &str, before: usize, alphabet: &[u8; 64]) -> String {
    let bytes = [&[0; 2][..before], secret.as_bytes()].concat();
    let encoded = base64(&bytes, alphabet);
    // Six bits a character: those that hold a bit from outside are left out.
    let (first, last) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    encoded[first..last].to_string()
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 without padding (RFC 4648).
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut encoded = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (i, byte)| bits | u32::from(*byte) << (16 - 8 * i));
        for i in 0..=group.len() {
            encoded.push(char::from(alphabet[(bits >> (18 - 6 * i) & 63) as usize]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubbed(secret: &str, text: &str) -> String {
        let mut scrubber = Scrubber::new();
        scrubber.add(secret);
        scrubber.scrub(text).into_owned()
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors =
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes(), STANDARD), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff], STANDARD), "+/8");
        assert_eq!(base64(&[0xfb, 0xff], URL_SAFE), "-_8");
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let secret = "p@ss w/ö?>>~\"rd\"";
        for form in [
            secret,
            // Everything, only what must be, in small letters, and as forms do.
            "%70%40%73%73%20%77%2F%C3%B6%3F%3E%3E%7E%22%72%64%22",
            "p%40ss%20w%2F%C3%B6%3F%3E%3E~%22rd%22",
            "p%40ss%20w%2f%c3%b6%3f%3e%3e~%22rd%22",
            "p%40ss+w%2F%C3%B6%3F%3E%3E~%22rd%22",
            // JSON and `Debug`.
            "p@ss w/ö?>>~\\\"rd\\\"",
            // Base64: standard, URL-safe, with and without padding, and percent-encoded.
            "cEBzcyB3L8O2Pz4+fiJyZCI=",
            "cEBzcyB3L8O2Pz4+fiJyZCI",
            "cEBzcyB3L8O2Pz4-fiJyZCI=",
            "cEBzcyB3L8O2Pz4-fiJyZCI",
            "cEBzcyB3L8O2Pz4%2BfiJyZCI%3D",
        ] {
            assert_eq!(scrubbed(secret, &format!("before {form} after")), "before *** after", "{form}");
        }
    }

    #[test]
    fn a_secret_is_found_within_a_longer_text_that_was_encoded() {
        for before in ["", "u", "us", "use"] {
            let encoded = base64(format!("{before}:correct horse battery staple!").as_bytes(), STANDARD);
            let clean = scrubbed("correct horse battery staple", &encoded);
            assert!(clean.contains("***") && clean.len() < 14, "{encoded}: {clean}");
        }
    }

    #[test]
    fn several_secrets_and_places_are_all_found_and_what_overlaps_is_one() {
        let mut scrubber = Scrubber::new();
        for secret in ["hunter", "hunter2", "ter2x", "other"] {
            scrubber.add(secret);
        }
        assert_eq!(scrubber.scrub("a hunter2x b otherother %6fther hunte"), "a *** b ****** *** hunte");
    }

    #[test]
    fn what_is_too_short_or_is_none_is_left_alone() {
        assert_eq!(scrubbed("abc", "abc abc"), "abc abc");
        assert_eq!(scrubbed("äöü", "äöü"), "äöü");
        assert_eq!(scrubbed("", "abc"), "abc");
        assert!(matches!(Scrubber::new().scrub("100 % of %zz"), Cow::Borrowed(_)));
        assert_eq!(scrubbed("hunter2", "100 % of %zz %"), "100 % of %zz %");
    }
}
