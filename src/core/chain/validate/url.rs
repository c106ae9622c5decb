//! Base URLs of upstreams.

use ::core::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

use crate::api::v1alpha1::UPSTREAM_URL;
use crate::core::kube_name;

/// A base URL that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// As it is used: without a slash at its end.
    pub text: String,
    /// It is encrypted.
    pub tls: bool,
    /// Name or address of the server.
    pub host: String,
    /// Its path, without a slash at its end; empty when it has none.
    pub path: String,
}

#[expect(clippy::expect_used, reason = "a constant, which every test of this file uses")]
static SHAPE: LazyLock<Regex> = LazyLock::new(|| Regex::new(UPSTREAM_URL).expect("a regular expression"));

impl BaseUrl {
    /// Reads a base URL.
    ///
    /// # Errors
    ///
    /// Why it is none, in a sentence that does not repeat it: it may hold a password.
    pub fn parse(text: &str) -> Result<BaseUrl, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme; write https://")?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err("its scheme is neither https nor http, in lower case"),
        };
        if rest.contains('@') {
            return Err("it names a user; keys belong into a Secret, named in `credentials`");
        }
        if rest.contains(['?', '#']) {
            return Err("it has a query or a fragment; a base URL ends with its path");
        }
        if text.chars().count() > 512 {
            return Err("it has more than 512 characters");
        }
        if !SHAPE.is_match(text) {
            return Err(
                "it is not of the form https://host[:port][/path], with a host in lower case and a path of letters, digits and -._~",
            );
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        if !path.is_empty() && path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err("its path has an empty segment, `.` or `..`");
        }
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address are inside of brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err("its port is not from 1 to 65535");
        }
        if !is_host(host) {
            return Err("its host is neither a DNS name nor an IP address");
        }
        Ok(BaseUrl { text: text.trim_end_matches('/').to_owned(), tls, host: host.to_owned(), path: path.to_owned() })
    }

    /// The server is inside the cluster or the pod: the name of a Service, or the loopback address.
    pub fn is_internal(&self) -> bool {
        is_internal(&self.host)
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    kube_name::is_subdomain(host) && host.split('.').all(kube_name::is_label)
}

/// Whether a host is inside the cluster or the pod: the same names as in the CEL rules of the CRD.
pub fn is_internal(host: &str) -> bool {
    host == "127.0.0.1" || kube_name::is_label(host) || host.ends_with(".svc") || host.ends_with(".svc.cluster.local")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_scheme_host_port_and_path() {
        let url = BaseUrl::parse("https://gateway.example.com:8443/openai/v1/").unwrap();
        let BaseUrl { text, tls, host, path } = url;
        assert_eq!(text, "https://gateway.example.com:8443/openai/v1");
        assert_eq!((tls, host.as_str(), path.as_str()), (true, "gateway.example.com", "openai/v1"));
        for good in
            ["https://a", "https://10.0.0.1:443", "https://[2001:db8::1]:8443/v1", "http://llama.models.svc:8080"]
        {
            assert!(BaseUrl::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_repeating_it() {
        let bad = [
            "",
            "api.openai.com",
            "ftp://a",
            "HTTPS://a",
            "https://",
            "https://user:secret@a",
            "https://a?key=secret",
            "https://a#f",
            "https://a/../b",
            "https://a//b",
            "https://a/%2e%2e",
            "https://a:0",
            "https://a:65536",
            "https://a:b",
            "https://A.example.com",
            "https://a..b",
            "https://a.-b",
            "https://1.2.3",
            "https://256.1.1.1",
            "https://[::g]",
            "https://[::1",
            "https://ä.example",
            "https://a b",
            "https://a\n",
            "https://a\\b",
            "file:///etc/passwd",
        ];
        for text in bad {
            let error = BaseUrl::parse(text).unwrap_err();
            assert!(!error.contains("secret"), "{text:?}");
        }
        assert!(BaseUrl::parse(&format!("https://a/{}", "b".repeat(600))).is_err());
    }

    #[test]
    fn names_of_services_are_inside_the_cluster_and_others_are_not() {
        for inside in ["vllm", "vllm.models.svc", "vllm.models.svc.cluster.local", "localhost", "127.0.0.1"] {
            assert!(is_internal(inside), "{inside}");
        }
        for outside in ["api.openai.com", "vllm.models", "svc.example.com", "a.svc.example.com", "10.0.0.1", "[::1]"] {
            assert!(!is_internal(outside), "{outside}");
        }
    }
}
