//! `[web]`: the installer's page.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::mqtt::secret;
use super::{ConfigError, Place, Secret};

/// Where the page is unless the configuration says otherwise.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8470);

/// A token with fewer characters could be guessed.
const LEAST_TOKEN: usize = 16;
const LONGEST_TOKEN: usize = 256;

/// `[web]`.
#[derive(Debug, Clone, PartialEq)]
pub struct WebConfig {
    /// Address and port. Default: "127.0.0.1:8470", which only this device itself can reach.
    pub listen: SocketAddr,
    /// Whoever has it sees the camera's pictures. Read from `token_file` (a file that only the
    /// daemon's user and its group may read) or from `token_credential` (one that systemd hands
    /// over); there is no page without one.
    pub token: Secret,
    /// Names by which a browser may call the device, in lower case, besides `localhost` and all
    /// addresses in numbers. Default: none.
    pub hosts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWeb {
    listen: Option<Spanned<String>>,
    token_file: Option<Spanned<PathBuf>>,
    token_credential: Option<Spanned<String>>,
    #[serde(default)]
    hosts: Vec<Spanned<String>>,
}

pub(super) fn check(raw: Spanned<RawWeb>, place: &Place) -> Result<WebConfig, ConfigError> {
    let span = raw.span();
    if cfg!(not(feature = "web")) {
        return Err(place.invalid(
            "web",
            span,
            "this program was built without the page; build it with --features web, or remove the section",
        ));
    }
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    raw.into_inner().check(place, span, credentials)
}

impl RawWeb {
    fn check(
        self,
        place: &Place,
        span: std::ops::Range<usize>,
        credentials: Option<OsString>,
    ) -> Result<WebConfig, ConfigError> {
        let listen = match &self.listen {
            None => LISTEN,
            Some(text) => match text.as_ref().parse::<SocketAddr>() {
                Ok(address) if address.port() != 0 => address,
                _ => {
                    return Err(place.invalid(
                        "web.listen",
                        text.span(),
                        format!(
                            "{:?}, expected an address in numbers and a port such as \"{LISTEN}\", \
                             \"[::1]:8470\" or, for the whole network, \"0.0.0.0:8470\"",
                            text.as_ref()
                        ),
                    ));
                }
            },
        };
        let file = self.token_file.as_ref();
        let credential = self.token_credential.as_ref();
        let Some(token) = secret(place, "web", "token", file, credential, credentials)? else {
            return Err(place.invalid(
                "web",
                span,
                "no token, so anybody could see the pictures; make one with \
                 `head -c 24 /dev/urandom | base64` in a file that other users can't read (chmod o=), \
                 and name that with token_file",
            ));
        };
        if let Err(problem) = strong(token.expose()) {
            let (key, span) = match (file, credential) {
                (None, Some(credential)) => ("web.token_credential", credential.span()),
                (file, _) => ("web.token_file", file.map_or(span, Spanned::span)),
            };
            return Err(place.invalid(
                key,
                span,
                format!(
                    "the token {problem}, expected {LEAST_TOKEN} to {LONGEST_TOKEN} letters, digits and \
                     signs without spaces; make one with `head -c 24 /dev/urandom | base64`"
                ),
            ));
        }
        let mut hosts = Vec::new();
        for host in &self.hosts {
            let name = host.as_ref().trim_end_matches('.').to_ascii_lowercase();
            if !is_host_name(&name) {
                return Err(place.invalid(
                    "web.hosts",
                    host.span(),
                    format!(
                        "{:?}, expected a name without `http://`, port or `*`, such as \"porch.local\"",
                        host.as_ref()
                    ),
                ));
            }
            hosts.push(name);
        }
        Ok(WebConfig {
            listen,
            token,
            hosts,
        })
    }
}

/// Says what is wrong with a token, without the token.
fn strong(token: &str) -> Result<(), String> {
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has spaces or characters that are not ASCII".into());
    }
    let length = token.len();
    if !(LEAST_TOKEN..=LONGEST_TOKEN).contains(&length) {
        return Err(format!("has {length} characters"));
    }
    // What is typed in a hurry: "aaaaaaaaaaaaaaaa".
    let mut different: Vec<u8> = token.bytes().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < LEAST_TOKEN / 2 {
        return Err(format!("has only {} different ones", different.len()));
    }
    Ok(())
}

fn is_host_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

#[cfg(all(test, feature = "web"))]
mod tests {
    use super::super::Config;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    const TOKEN: &str = "q7Jx2mV0sLzT4bWn";

    fn write_token(folder: &Path, text: &str, mode: u32) {
        let file = folder.join("token");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load_in(folder: &Path, section: &str) -> Result<Config, String> {
        let file = folder.join("captiond.toml");
        let text = format!("[source]\nkind = \"folder\"\npath = \"in\"\n{section}");
        fs::write(&file, text).unwrap();
        // Without stdout: the page alone is a way out for captions.
        Config::load(&file, false).map_err(|error| error.to_string())
    }

    #[test]
    fn the_page_is_on_loopback_with_the_token_of_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        write_token(folder.path(), &format!("{TOKEN}\n"), 0o600);
        let config = load_in(folder.path(), "[web]\ntoken_file = \"token\"\n").unwrap();
        assert_eq!(
            config.web,
            Some(WebConfig {
                listen: LISTEN,
                token: Secret::new(TOKEN),
                hosts: Vec::new(),
            })
        );
        assert!(LISTEN.ip().is_loopback());
        assert!(!format!("{config:?}").contains(TOKEN));
        let more =
            "[web]\ntoken_file = \"token\"\nlisten = \"[::]:80\"\nhosts = [\"Porch.local.\"]\n";
        let web = load_in(folder.path(), more).unwrap().web.unwrap();
        assert_eq!(web.listen, "[::]:80".parse().unwrap());
        assert_eq!(web.hosts, ["porch.local"]);
    }

    #[test]
    fn without_a_section_there_is_no_page() {
        let folder = tempfile::tempdir().unwrap();
        let speech = "[speech]\nvia = \"espeak-ng\"\n";
        assert_eq!(load_in(folder.path(), speech).unwrap().web, None);
    }

    #[test]
    fn what_is_wrong_is_named_with_the_way_out_and_without_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |section: &str, parts: &[&str]| {
            let message = load_in(folder.path(), section).expect_err(section);
            for part in parts.iter().chain(&["captiond.toml:"]) {
                assert!(message.contains(part), "{part:?} is not in: {message}");
            }
            message
        };
        for section in ["[web]\n", "[web]\nlisten = \"127.0.0.1:8470\"\n"] {
            refused(
                section,
                &["`web`", "no token", "/dev/urandom", "token_file"],
            );
        }
        let with_file = "[web]\ntoken_file = \"token\"\n";
        refused(with_file, &["`web.token_file`", "can't be read"]);
        for (text, problem) in [
            ("short", "5 characters"),
            ("with spaces in it, long enough", "spaces"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1 different"),
            ("", "empty, expected the token"),
            ("first line of it\nsecond line of it", "more than one line"),
        ] {
            write_token(folder.path(), text, 0o600);
            let message = refused(with_file, &["`web.token_file`", problem]);
            assert!(text.is_empty() || !message.contains(text), "{message}");
        }
        write_token(folder.path(), TOKEN, 0o644);
        let message = refused(with_file, &["mode 0644", "chmod o=", "change the token"]);
        assert!(!message.contains(TOKEN));
        write_token(folder.path(), TOKEN, 0o600);
        for wrong in ["localhost:8470", "127.0.0.1", "8470", "127.0.0.1:0"] {
            let section = format!("{with_file}listen = \"{wrong}\"\n");
            refused(&section, &["`web.listen`", wrong, "\"127.0.0.1:8470\""]);
        }
        for wrong in ["http://porch", "porch:80", "*", ""] {
            let section = format!("{with_file}hosts = [\"{wrong}\"]\n");
            refused(&section, &["`web.hosts", "\"porch.local\""]);
        }
        let both = format!("{with_file}token_credential = \"t\"\n");
        refused(&both, &["`web.token_credential`", "token_file too"]);
        refused("[web]\npassword = \"x\"\n", &["unknown field"]);
    }

    #[test]
    fn a_credential_of_systemd_is_read() {
        let folder = tempfile::tempdir().unwrap();
        write_token(folder.path(), TOKEN, 0o400);
        let file = folder.path().join("captiond.toml");
        let text = "token_credential = \"token\"\n";
        let place = Place { file: &file, text };
        let raw = || toml::from_str::<RawWeb>(text).unwrap();
        let found = raw().check(&place, 0..1, Some(folder.path().into()));
        assert_eq!(found.unwrap().token, Secret::new(TOKEN));
        let message = raw().check(&place, 0..1, None).unwrap_err().to_string();
        assert!(message.contains("LoadCredential=token:FILE"), "{message}");
        assert!(message.contains("token_file"), "{message}");
    }
}
