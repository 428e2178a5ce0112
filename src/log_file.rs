//! The file that a process logs to: a new one each day.

use std::path::{Path, PathBuf};

use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};

/// Why there can't be a log.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// The path ends without a file's name.
    #[error("opening the log {0}: name a file, for example /var/log/codis.log")]
    NoName(PathBuf),
    /// There is no such folder. A mistyped path is not made.
    #[error("opening the log {path}: there is no folder {folder}; create it, or name another file")]
    NoFolder {
        /// The path, as given.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// It can't be made there.
    #[error("opening the log {path}: {reason}")]
    Open {
        /// The path, as given.
        path: PathBuf,
        /// Why not.
        reason: InitError,
    },
}

/// Opens the log of this name, and makes its folder where need be. As Codis' the real file has the day (UTC) as a suffix,
/// `NAME.2026-11-24`, and is added to where there is one. Each line is in the file before the process goes on: none is lost, however it ends.
///
/// # Errors
/// See [`LogFileError`].
pub fn open(path: &Path) -> Result<RollingFileAppender, LogFileError> {
    let name = path.file_name().ok_or_else(|| LogFileError::NoName(path.to_owned()))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(LogFileError::NoFolder {
            path: path.to_owned(),
            folder: folder.to_owned(),
        });
    }
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(name.to_string_lossy())
        .build(folder)
        .map_err(|reason| LogFileError::Open {
            path: path.to_owned(),
            reason,
        })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_real_file_has_the_day_as_a_suffix_and_is_added_to() {
        let folder = tempfile::TempDir::new().unwrap();
        for line in ["one\n", "two\n"] {
            let mut log = open(&folder.path().join("codis.log")).unwrap();
            log.write_all(line.as_bytes()).unwrap();
        }
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
        let name = files[0].file_name().into_string().unwrap();
        let day = name.strip_prefix("codis.log.").unwrap();
        assert!(day.parse::<jiff::civil::Date>().is_ok() && files.len() == 1, "{name}");
        assert_eq!(std::fs::read_to_string(files[0].path()).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_log_that_cannot_be_is_refused_by_its_name() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.join("log"), PathBuf::from("/")] {
            let error = open(&path).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
