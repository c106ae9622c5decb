//! Bearer tokens from a mounted Secret.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use tokio::{sync::Mutex, time::Instant};

use crate::core::{intake::TokenOwner, kube_name};

/// The files are read again when what is known is older than this: Secrets rotate.
const FRESH: Duration = Duration::from_secs(2);
/// Longest token file, in bytes.
const FILE: u64 = 4096;
/// Token files that are read.
const FILES: usize = 1024;

/// The tokens in a folder: `token`, `token-previous` (both of the cluster) and `tenant-<namespace>`.
pub struct Tokens {
    dir: PathBuf,
    read: Mutex<Option<(Instant, Arc<Known>)>>,
}

/// The tokens as last read: SHA-256 of each, so that a comparison says nothing about lengths.
#[derive(Default)]
pub(super) struct Known(Vec<([u8; 32], TokenOwner)>);

impl Tokens {
    /// Tokens in `dir`. Nothing is read yet.
    pub fn new(dir: &Path) -> Tokens {
        Tokens { dir: dir.into(), read: Mutex::new(None) }
    }

    /// The tokens that hold now.
    pub(super) async fn current(&self) -> Arc<Known> {
        let mut read = self.read.lock().await;
        if let Some((at, known)) = &*read
            && at.elapsed() < FRESH
        {
            return Arc::clone(known);
        }
        let dir = self.dir.clone();
        let known = match tokio::task::spawn_blocking(move || Known::read(&dir)).await {
            Ok(Ok(known)) => known,
            Ok(Err(error)) => {
                tracing::warn!(dir = %self.dir.display(), %error, "the intake's tokens cannot be read");
                Known::default()
            }
            Err(error) => {
                tracing::error!(%error, "reading the intake's tokens failed");
                Known::default()
            }
        };
        let known = Arc::new(known);
        *read = Some((Instant::now(), Arc::clone(&known)));
        known
    }
}

impl Known {
    fn read(dir: &Path) -> io::Result<Known> {
        let mut known = Vec::new();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            // No Secret is mounted: the intake is simply off.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Known(known)),
            Err(error) => return Err(error),
        };
        for entry in entries.take(FILES) {
            let path = entry?.path();
            let Some(sender) = path.file_name().and_then(|name| name.to_str()).and_then(owner) else { continue };
            // One file that cannot be read must not take the others' tokens away.
            match read_bounded(&path) {
                Ok(token) if !token.trim().is_empty() => {
                    known.push((Sha256::digest(token.trim().as_bytes()).into(), sender));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(file = %path.display(), %error, "a token file cannot be read"),
            }
        }
        Ok(Known(known))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who sends `Authorization: <value>`. Every token is compared, whatever the outcome.
    pub fn sender(&self, value: &str) -> Option<TokenOwner> {
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let given: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        let mut found: Option<&TokenOwner> = None;
        for (known, sender) in &self.0 {
            let equal: Choice = known.ct_eq(&given);
            if bool::from(equal) {
                // One token for several senders gets the narrowest of their rights.
                found = match (found, sender) {
                    (Some(TokenOwner::Tenant(one)), TokenOwner::Tenant(other)) if one != other => return None,
                    (Some(tenant @ TokenOwner::Tenant(_)), _) => Some(tenant),
                    _ => Some(sender),
                };
            }
        }
        found.cloned()
    }
}

fn owner(file: &str) -> Option<TokenOwner> {
    match file {
        "token" | "token-previous" => Some(TokenOwner::Cluster),
        _ => {
            let namespace = file.strip_prefix("tenant-")?;
            kube_name::is_label(namespace).then(|| TokenOwner::Tenant(namespace.into()))
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 4096 bytes, expected one token"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn each_file_is_its_own_sender_and_line_breaks_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("token", "new\n"), ("token-previous", "old"), ("tenant-shop", "t"), ("README", "no")]);
        let known = Known::read(dir.path()).unwrap();
        assert_eq!(known.sender("Bearer new"), Some(TokenOwner::Cluster));
        assert_eq!(known.sender("bearer old"), Some(TokenOwner::Cluster));
        assert_eq!(known.sender("Bearer t"), Some(TokenOwner::Tenant("shop".into())));
        for wrong in ["Bearer no", "Bearer ", "Bearer", "Basic new", "new", "", "Bearer new2"] {
            assert_eq!(known.sender(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_empty_file_or_a_huge_one_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("token", " \n"), ("token-previous", &"x".repeat(5000)), ("tenant-Bad_Name", "t")]);
        let known = Known::read(dir.path()).unwrap();
        assert!(known.is_empty());
        assert_eq!(known.sender("Bearer "), None);
    }

    #[test]
    fn one_token_for_several_senders_gets_the_narrowest_rights() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("token", "same"), ("tenant-shop", "same")]);
        assert_eq!(Known::read(dir.path()).unwrap().sender("Bearer same"), Some(TokenOwner::Tenant("shop".into())));
        write(dir.path(), &[("tenant-other", "same")]);
        assert_eq!(Known::read(dir.path()).unwrap().sender("Bearer same"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotated_secret_is_seen_without_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::new(&dir.path().join("later"));
        assert!(tokens.current().await.is_empty());
        std::fs::create_dir(dir.path().join("later")).unwrap();
        write(&dir.path().join("later"), &[("token", "one")]);
        tokio::time::advance(FRESH).await;
        assert!(tokens.current().await.sender("Bearer one").is_some());
        write(&dir.path().join("later"), &[("token", "two")]);
        tokio::time::advance(FRESH).await;
        let known = tokens.current().await;
        assert!(known.sender("Bearer one").is_none() && known.sender("Bearer two").is_some());
    }
}
