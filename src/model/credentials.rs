//! Keys of upstreams, from Secrets that are mounted as files: `<root>/<secret>/<key>`. They are read here and go into the
//! headers of requests; nothing else sees them, and nothing shows them.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::api::v1alpha1::ModelCredentials;

/// Where the chart mounts the Secrets of models.
pub const ROOT: &str = "/etc/backstop/models";
/// A file is read again after so long: Secrets rotate.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Most bytes of a file.
const MAX_BYTES: u64 = 16 * 1024;

/// One secret value: of visible ASCII characters, so that it can stand in a header.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for a header or a signature.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Secret {
    fn is_in(&self, text: &str) -> bool {
        let (text, piece) = (text.as_bytes(), PIECE.min(self.0.len()));
        let holds = |part: &[u8]| text.windows(piece).any(|window| window.eq_ignore_ascii_case(part));
        self.0.as_bytes().windows(piece.max(1)).any(holds)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// What an upstream is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Nothing.
    None,
    /// An API key or a bearer token.
    Token(Secret),
    /// AWS access keys, for a signature.
    Aws {
        /// The access key ID.
        id: Secret,
        /// The secret access key.
        secret: Secret,
        /// The session token of temporary keys.
        session: Option<Secret>,
    },
}

/// Characters of a key in a row by which it is known in a text. What is shorter is known as a whole.
const PIECE: usize = 12;

impl Keys {
    /// Whether a text holds one of them, or a piece of one.
    pub fn are_in(&self, text: &str) -> bool {
        match self {
            Keys::None => false,
            Keys::Token(token) => token.is_in(text),
            Keys::Aws { id, secret, session } => {
                [Some(id), Some(secret), session.as_ref()].into_iter().flatten().any(|key| key.is_in(text))
            }
        }
    }
}

/// Why a key could not be read. It names the Secret and the key in it, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Name of the Secret.
    pub secret: String,
    /// Its key.
    pub key: String,
    /// What is wrong, such as `is not mounted`.
    pub why: &'static str,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {:?} of Secret {:?} {}", self.key, self.secret, self.why)
    }
}

impl std::error::Error for Unreadable {}

/// Tells whether keys changed, without telling them: equal for the same values within this process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Version(u64);

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<version of a secret>")
    }
}

/// Reads keys, and keeps each file's for ten seconds.
pub struct Credentials {
    root: PathBuf,
    kept: Mutex<HashMap<PathBuf, (Instant, Secret)>>,
    /// A key of its own for each process, so that a [`Version`] tells nothing about a value.
    hasher: RandomState,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Keys below `root`, which is [`ROOT`] in a pod.
    pub fn new(root: impl Into<PathBuf>) -> Credentials {
        Credentials { root: root.into(), kept: Mutex::default(), hasher: RandomState::new() }
    }

    /// The keys that `credentials` names.
    pub async fn read(&self, credentials: Option<&ModelCredentials>) -> Result<Keys, Unreadable> {
        let Some(ModelCredentials { secret, key, secret_key, session_key }) = credentials else {
            return Ok(Keys::None);
        };
        let first = self.value(secret, key).await?;
        let Some(secret_key) = secret_key else { return Ok(Keys::Token(first)) };
        let session = match session_key {
            Some(session_key) => Some(self.value(secret, session_key).await?),
            None => None,
        };
        Ok(Keys::Aws { id: first, secret: self.value(secret, secret_key).await?, session })
    }

    /// What tells whether the keys have changed since; `None` while they cannot be read.
    pub async fn version(&self, credentials: Option<&ModelCredentials>) -> Option<Version> {
        let keys = self.read(credentials).await.ok()?;
        let values: Vec<Option<&str>> = match &keys {
            Keys::None => Vec::new(),
            Keys::Token(token) => vec![Some(token.reveal())],
            Keys::Aws { id, secret, session } => {
                vec![Some(id.reveal()), Some(secret.reveal()), session.as_ref().map(Secret::reveal)]
            }
        };
        Some(Version(self.hasher.hash_one(values)))
    }

    /// Reads the files of `credentials` again when they are needed next: they were refused.
    pub fn forget(&self, credentials: &ModelCredentials) {
        let folder = self.root.join(&credentials.secret);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|path, _| !path.starts_with(&folder));
    }

    async fn value(&self, secret: &str, key: &str) -> Result<Secret, Unreadable> {
        let unreadable = |why| Unreadable { secret: secret.to_owned(), key: key.to_owned(), why };
        if !is_name(secret) || !is_name(key) {
            return Err(unreadable("is no name of a Secret and a key of it"));
        }
        let path = self.root.join(secret).join(key);
        if let Some((read_at, value)) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&path)
            && read_at.elapsed() < KEPT_FOR
        {
            return Ok(value.clone());
        }
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&file)).await;
        let value = read.unwrap_or(Err("cannot be read")).map_err(unreadable)?;
        let entry = (Instant::now(), value.clone());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(path, entry);
        Ok(value)
    }
}

/// A name that leads to no other folder.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    !name.is_empty() && name.len() <= 253 && !name.starts_with('.') && name.chars().all(fits)
}

fn read(path: &Path) -> Result<Secret, &'static str> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "is not mounted",
        _ => "cannot be read",
    };
    // Before it is opened: opening a pipe would wait.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("is no file");
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("is larger than 16 KiB");
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not text")?;
    let value = text.trim();
    if value.is_empty() {
        return Err("is empty");
    }
    if !value.chars().all(|c| c.is_ascii_graphic()) {
        return Err("holds something else than visible characters without spaces");
    }
    Ok(Secret(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(key: &str) -> ModelCredentials {
        ModelCredentials { secret: "claude".into(), key: key.into(), secret_key: None, session_key: None }
    }

    fn mounted(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Credentials) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("claude")).unwrap();
        for (name, value) in files {
            fs::write(root.path().join("claude").join(name), value).unwrap();
        }
        let credentials = Credentials::new(root.path());
        (root, credentials)
    }

    #[tokio::test]
    async fn a_token_is_read_without_the_line_break_at_its_end_and_never_shown() {
        let (_root, credentials) = mounted(&[("token", b"sk-very-secret\n")]);
        let keys = credentials.read(Some(&names("token"))).await.unwrap();
        assert!(matches!(&keys, Keys::Token(token) if token.reveal() == "sk-very-secret"));
        let version = credentials.version(Some(&names("token"))).await;
        assert!(!format!("{keys:?} {credentials:?} {version:?}").contains("very"));
        assert_eq!(credentials.read(None).await, Ok(Keys::None));
    }

    #[test]
    fn a_key_is_known_in_a_text_and_so_is_a_piece_of_it() {
        let token = Keys::Token(Secret("sk-very-secret-0123456789".into()));
        for text in
            ["sk-very-secret-0123456789", "model:SK-VERY-SECRET-0123456789", "x-secret-01234", "0-secret-0123456789"]
        {
            assert!(token.are_in(text), "{text}");
        }
        for text in ["", "claude-opus-4", "req_0123456789", "sk-very", "very-secret"] {
            assert!(!token.are_in(text), "{text}");
        }
        assert!(Keys::Token(Secret("short".into())).are_in("a-short-one"));
        assert!(!Keys::None.are_in("anything"));
        let secret = |text: &str| Secret(text.into());
        let aws = Keys::Aws { id: secret("AKIDEXAMPLE"), secret: secret("wJalr"), session: Some(secret("tok-1")) };
        assert!(["AKIDEXAMPLE", "wjalr", "is tok-1"].iter().all(|text| aws.are_in(text)) && !aws.are_in("akid"));
    }

    #[tokio::test]
    async fn access_keys_are_read_with_and_without_a_session() {
        let (_root, credentials) = mounted(&[("id", b"AKID"), ("key", b"s3cr3t"), ("session", b"tok")]);
        let with = |session_key: Option<&str>| ModelCredentials {
            secret_key: Some("key".into()),
            session_key: session_key.map(str::to_owned),
            ..names("id")
        };
        let keys = credentials.read(Some(&with(None))).await.unwrap();
        assert!(matches!(keys, Keys::Aws { session: None, .. }));
        let keys = credentials.read(Some(&with(Some("session")))).await.unwrap();
        assert!(matches!(keys, Keys::Aws { session: Some(session), .. } if session.reveal() == "tok"));
    }

    #[tokio::test]
    async fn what_is_no_key_is_refused_with_its_names_and_without_its_value() {
        let large = [b'x'; 20_000];
        let (_root, credentials) = mounted(&[
            ("empty", b" \n"),
            ("spaces", b"two-secret words"),
            ("binary", &[0xff, 0xfe]),
            ("accent", "sécret".as_bytes()),
            ("large", &large),
        ]);
        for (key, why) in [
            ("absent", "is not mounted"),
            ("empty", "is empty"),
            ("spaces", "holds something else than visible characters without spaces"),
            ("accent", "holds something else than visible characters without spaces"),
            ("binary", "is not text"),
            ("large", "is larger than 16 KiB"),
            ("../claude/empty", "is no name of a Secret and a key of it"),
            ("..data", "is no name of a Secret and a key of it"),
            ("", "is no name of a Secret and a key of it"),
        ] {
            let error = credentials.read(Some(&names(key))).await.unwrap_err();
            assert_eq!(error, Unreadable { secret: "claude".into(), key: key.into(), why }, "{key}");
            assert!(!error.to_string().contains("two-secret"));
        }
        let elsewhere = ModelCredentials { secret: "..".into(), ..names("token") };
        assert!(credentials.read(Some(&elsewhere)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotated_secret_is_seen_after_ten_seconds_or_once_it_was_refused() {
        let (root, credentials) = mounted(&[("token", b"old")]);
        let token = async || match credentials.read(Some(&names("token"))).await {
            Ok(Keys::Token(token)) => token.reveal().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(token().await, "old");
        let before = credentials.version(Some(&names("token"))).await;
        fs::write(root.path().join("claude/token"), "new").unwrap();
        assert_eq!(token().await, "old");
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(token().await, "new");
        assert_ne!(credentials.version(Some(&names("token"))).await, before);
        fs::write(root.path().join("claude/token"), "newer").unwrap();
        credentials.forget(&names("token"));
        assert_eq!(token().await, "newer");
    }
}
