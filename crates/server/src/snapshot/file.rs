//! The file's place: there is a whole snapshot at any moment, or none.
//!
//! A snapshot is written beside its place and takes it when the disk has it. What was damaged is kept under another name,
//! and goes only when that name is needed again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where a server's snapshots go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(PathBuf);

/// What is to become of the file that a new one takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// It goes.
    Replaced,
    /// It is damaged, and stays as [`Place::damaged`].
    Kept,
}

impl Place {
    /// This file.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is being written.
    #[must_use]
    pub fn unfinished(&self) -> PathBuf {
        self.with(".tmp")
    }

    /// What could not be read.
    #[must_use]
    pub fn damaged(&self) -> PathBuf {
        self.with(".damaged")
    }

    /// The file and its length, `None` where there is none.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn open(&self) -> io::Result<Option<(File, u64)>> {
        let file = match File::open(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        Ok(Some((file, meta.len())))
    }

    /// An empty file beside it, for its owner alone: it holds what clients have stored.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn create(&self) -> io::Result<File> {
        self.discard();
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.unfinished())
    }

    /// Puts what was written into its place, for good.
    ///
    /// # Errors
    /// What the system says; the older file is there then.
    pub fn publish(&self, file: &File, older: Older) -> io::Result<()> {
        file.sync_all()?;
        if older == Older::Kept {
            self.keep_damaged()?;
        }
        fs::rename(self.unfinished(), &self.0)?;
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Removes what was not finished, if there is anything.
    pub fn discard(&self) {
        // Where it cannot be removed, nothing can be written either, and that is told.
        let _ = fs::remove_file(self.unfinished());
    }

    /// Under both names at first, so that a crash here leaves the file where it was.
    fn keep_damaged(&self) -> io::Result<()> {
        let damaged = self.damaged();
        for gone in [fs::remove_file(&damaged), fs::hard_link(&self.0, &damaged)] {
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn with(&self, suffix: &str) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}
