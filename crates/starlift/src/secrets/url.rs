//! Where a connection URL may hold a password: read with less care than the URL itself is, because one that cannot be used
//! has a password all the same. What is taken for one by mistake only gets stars that it did not need.

/// Everything that may be a password in a URL, as it is written there and decoded.
pub(super) fn passwords(url: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some((_, rest)) = url.split_once("://") {
        // A password that was not encoded may hold any mark that would end it: the longest and the shortest that it can be.
        for user_info in [rest.rsplit_once('@'), rest.split_once('@')].into_iter().flatten().map(|(info, _)| info) {
            found.extend(user_info.split_once(':').map(|(_, password)| password.to_string()));
        }
    }
    for (start, _) in url.match_indices("password=") {
        let value = &url[start + "password=".len()..];
        found.push(value.to_string());
        found.extend(value.split(['&', ' ']).next().map(str::to_string));
    }
    let decoded: Vec<String> = found.iter().filter_map(|text| decoded(text)).collect();
    found.extend(decoded);
    found
}

/// The text with its percent-encoding undone; none where it has none, or is no text then.
fn decoded(text: &str) -> Option<String> {
    let bytes = super::forms::percent_decoded(text)?;
    String::from_utf8(bytes.into_iter().map(|byte| byte.byte).collect()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_in_urls_good_and_bad() {
        for url in [
            "postgres://u:hunter2@h/d",
            "postgres://u:hunter2@/d?sslmode=wrong",
            "postgres://u@h/d?password=hunter2&sslmode=disable",
            "postgres://h?user=u&password=hunter2",
            "mysql://u:hunter2@h:port/d#x",
            "host=h password=hunter2 dbname=d",
            "://:hunter2@",
        ] {
            assert!(passwords(url).contains(&"hunter2".to_string()), "{url}: {:?}", passwords(url));
        }
        for (url, password) in [
            ("postgres://u:p%40ss/wo?rd#1@h/d", "p@ss/wo?rd#1"),
            ("postgres://u:p%40ss/wo?rd#1@h/d", "p%40ss/wo?rd#1"),
            ("postgres://u:p@ss@h/d", "p@ss"),
            ("postgres://u:hunter2@h/d?application_name=a@b", "hunter2"),
        ] {
            assert!(passwords(url).contains(&password.to_string()), "{url}: {:?}", passwords(url));
        }
    }

    #[test]
    fn a_url_without_a_password_yields_none() {
        for url in ["postgres://u@h/d", "postgres:///d?host=/run", "lake/ingest", "s3://bucket/x", ""] {
            assert_eq!(passwords(url), [""; 0], "{url}");
        }
    }
}
