//! Where a service is: the region, and the URL of its endpoint. Pure.

use std::collections::BTreeMap;

use starlift_core::{Error, Result};
use url::{Host, Url};

/// A service of AWS that is asked by JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Secrets Manager: `GetSecretValue`.
    SecretsManager,
    /// Systems Manager, of which the Parameter Store is a part: `GetParameter`.
    Parameters,
}

impl Service {
    /// The name in endpoints and signatures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Service::SecretsManager => "secretsmanager",
            Service::Parameters => "ssm",
        }
    }

    /// The operation, as the header `x-amz-target` names it.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Service::SecretsManager => "secretsmanager.GetSecretValue",
            Service::Parameters => "AmazonSSM.GetParameter",
        }
    }

    /// What it holds, for messages.
    pub(crate) fn thing(self) -> &'static str {
        match self {
            Service::SecretsManager => "secret",
            Service::Parameters => "parameter",
        }
    }

    /// The right that a reader needs.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Service::SecretsManager => "secretsmanager:GetSecretValue",
            Service::Parameters => "ssm:GetParameter",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Service::SecretsManager => "AWS_ENDPOINT_URL_SECRETSMANAGER",
            Service::Parameters => "AWS_ENDPOINT_URL_SSM",
        }
    }
}

/// The region of an ARN, else of the settings, else what `s3://` takes without a setting.
pub(crate) fn region(settings: &BTreeMap<String, String>, name: &str) -> String {
    let of_arn = name.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2)).filter(|region| is_region(region));
    let set = || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| settings.get(*name));
    of_arn.map(str::to_string).or_else(|| set().cloned()).unwrap_or_else(|| "us-east-1".into())
}

/// The endpoint: the service's own setting, else the one of all services, else AWS's.
///
/// Errors: Config; no setting is repeated, because credentials may have been put into it.
pub(crate) fn url(service: Service, settings: &BTreeMap<String, String>, region: &str) -> Result<Url> {
    if !is_region(region) {
        return Err(Error::config("the AWS region cannot be used")
            .with_hint("set `AWS_REGION` to the name of a region, such as `eu-west-2`"));
    }
    let set = [service.variable(), "AWS_ENDPOINT_URL"].into_iter().find_map(|name| Some((name, settings.get(name)?)));
    let Some((name, text)) = set else {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let text = format!("https://{}.{region}.{domain}/", service.name());
        return Url::parse(&text).map_err(|e| Error::config("the AWS region cannot be used").with_source(e));
    };
    let wrong = |what: &str| {
        Error::config(format!("`{name}` {what}"))
            .with_hint(format!("set `{name}` to a URL such as `https://vpce.example.com`"))
    };
    let url = Url::parse(text).map_err(|_| wrong("is no http or https URL"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(wrong("holds more than the address of a service"));
    }
    let allows_http = settings.get("AWS_ALLOW_HTTP").is_some_and(|word| matches!(word.as_str(), "true" | "1"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if allows_http || is_loopback(&url) => Ok(url),
        "http" => Err(Error::config(format!("`{name}` would send secrets across a network in the clear"))
            .with_hint("use `https://`; `AWS_ALLOW_HTTP=true` lets plain HTTP leave this machine")),
        _ => Err(wrong("is no http or https URL")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// It becomes part of a host name: nothing but what one may hold.
fn is_region(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use starlift_core::ErrorKind;

    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn the_region_is_that_of_the_arn_else_of_the_settings() {
        let set = settings(&[("AWS_REGION", "eu-west-2"), ("AWS_DEFAULT_REGION", "eu-west-1")]);
        assert_eq!(region(&set, "totesys"), "eu-west-2");
        assert_eq!(region(&set, "arn:aws:secretsmanager:us-east-2:1:secret:totesys-AbCdEf"), "us-east-2");
        assert_eq!(region(&set, "arn:aws:secretsmanager::1:secret:x"), "eu-west-2");
        assert_eq!(region(&settings(&[("AWS_DEFAULT_REGION", "eu-west-1")]), "x"), "eu-west-1");
        assert_eq!(region(&settings(&[]), "x"), "us-east-1");
    }

    #[test]
    fn the_services_own_endpoint_wins_over_that_of_all() {
        let of = |service, pairs: &[(&str, &str)]| url(service, &settings(pairs), "eu-west-2").unwrap().to_string();
        assert_eq!(of(Service::SecretsManager, &[]), "https://secretsmanager.eu-west-2.amazonaws.com/");
        assert_eq!(of(Service::Parameters, &[]), "https://ssm.eu-west-2.amazonaws.com/");
        let both = [("AWS_ENDPOINT_URL", "https://all.example"), ("AWS_ENDPOINT_URL_SSM", "https://ssm.example")];
        assert_eq!(of(Service::SecretsManager, &both), "https://all.example/");
        assert_eq!(of(Service::Parameters, &both), "https://ssm.example/");
        assert!(
            url(Service::Parameters, &settings(&[]), "cn-north-1").unwrap().as_str().ends_with(".amazonaws.com.cn/")
        );
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_it_is_allowed() {
        let of = |text: &str, more: &[(&str, &str)]| {
            let mut set = settings(more);
            set.insert("AWS_ENDPOINT_URL".into(), text.into());
            url(Service::SecretsManager, &set, "eu-west-2")
        };
        for inside in ["http://127.0.0.1:4566", "http://localhost:4566", "http://[::1]:4566"] {
            assert!(of(inside, &[]).is_ok(), "{inside}");
        }
        for outside in ["http://10.0.0.1", "http://aws.example", "http://127.0.0.1.example", "http://localhost.example"]
        {
            assert_eq!(of(outside, &[]).unwrap_err().kind(), ErrorKind::Config, "{outside}");
            assert!(of(outside, &[("AWS_ALLOW_HTTP", "true")]).is_ok(), "{outside}");
            assert!(of(outside, &[("AWS_ALLOW_HTTP", "false")]).is_err(), "{outside}");
        }
    }

    #[test]
    fn an_endpoint_or_region_that_cannot_be_used_is_not_repeated() {
        for text in ["hunter2", "https://u:hunter2@host", "ftp://hunter2", "https://host/?token=hunter2"] {
            let error = url(Service::Parameters, &settings(&[("AWS_ENDPOINT_URL", text)]), "eu-west-2").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        for text in ["", "evil.example/", "EU", "-a", &"a".repeat(40)] {
            assert!(url(Service::Parameters, &settings(&[]), text).is_err(), "{text}");
        }
    }
}
