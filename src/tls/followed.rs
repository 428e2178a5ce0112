use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::TlsError;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Something that is made of what lies in files.
pub(crate) trait OfFiles: Send + Sync + 'static {
    /// What lies in them.
    type Content: PartialEq + Send;
    /// What is made of it.
    type Made: Send + Sync;

    /// What the files are for, as the log calls it.
    fn name(&self) -> &'static str;

    /// What lies in the files now.
    ///
    /// # Errors
    /// When one can't be read.
    fn read(&self) -> Result<Self::Content, TlsError>;

    /// Makes it.
    ///
    /// # Errors
    /// When the content is not what it should be.
    fn make(&self, content: &Self::Content) -> Result<Self::Made, TlsError>;
}

/// What was made of files, and is made anew when they change.
pub(crate) struct Followed<S: OfFiles> {
    source: S,
    known: Mutex<Known<S>>,
    stale: AtomicBool,
}

struct Known<S: OfFiles> {
    content: S::Content,
    made: Arc<S::Made>,
}

impl<S: OfFiles> fmt::Debug for Followed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.source.name())
    }
}

impl<S: OfFiles> Followed<S> {
    /// Reads the files.
    ///
    /// # Errors
    /// When they can't be used as they are now.
    pub(crate) fn new(source: S) -> Result<Arc<Self>, TlsError> {
        let content = source.read()?;
        let made = Arc::new(source.make(&content)?);
        Ok(Arc::new(Self {
            source,
            known: Mutex::new(Known { content, made }),
            stale: AtomicBool::new(false),
        }))
    }

    /// What was made of the last good content.
    pub(crate) fn current(&self) -> Arc<S::Made> {
        self.known().made.clone()
    }

    /// Whether what lies in the files now can't be used, so that something older is.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// From now on takes what is written into the files, as long as somebody uses this. What can't be used is said once,
    /// and what was before it stays.
    pub(crate) fn follow(this: &Arc<Self>) {
        tokio::spawn(Self::look_again(Arc::downgrade(this)));
    }

    async fn look_again(followed: Weak<Self>) {
        let mut complaint = Complaint::default();
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(followed) = followed.upgrade() else { return };
            let name = followed.source.name();
            let looking = followed.clone();
            match tokio::task::spawn_blocking(move || looking.look()).await {
                Ok(Ok(changed)) => {
                    complaint = Complaint::default();
                    followed.stale.store(false, Ordering::Relaxed);
                    if changed {
                        tracing::info!(files = name, "the certificates were read again");
                    }
                }
                Ok(Err(error)) => {
                    if complaint.is_due(error.to_string()) {
                        followed.stale.store(true, Ordering::Relaxed);
                        tracing::warn!(files = name, %error, "new certificates are not taken, the former ones stay");
                    }
                }
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    fn look(&self) -> Result<bool, TlsError> {
        let content = self.source.read()?;
        if content == self.known().content {
            return Ok(false);
        }
        let made = Arc::new(self.source.make(&content)?);
        *self.known() = Known { content, made };
        Ok(true)
    }

    fn known(&self) -> MutexGuard<'_, Known<S>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with files. Only said when it is seen twice: the files of a Secret are exchanged all at once, but not
/// read so.
#[derive(Default)]
struct Complaint {
    text: String,
    seen: u32,
}

impl Complaint {
    fn is_due(&mut self, text: String) -> bool {
        if self.text != text {
            *self = Self { text, seen: 0 };
        }
        self.seen = self.seen.saturating_add(1);
        self.seen == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_once_and_only_if_it_stays() {
        let mut complaint = Complaint::default();
        let due: Vec<bool> = ["a", "b", "b", "b", "a", "a"]
            .map(|text| complaint.is_due(text.to_owned()))
            .to_vec();
        assert_eq!(due, [false, false, true, false, false, true]);
    }
}
