//! A file that is written or read once, from its front to its end, past the system's cache.
//!
//! Nobody wants to read it again soon. In the cache it would take the place of what others read, and pages that come and
//! go for all of it cost more than the disk does, in turns of the kernel that nobody can interrupt. So whole blocks go
//! between the disk and a buffer, by `O_DIRECT` (see open(2)). A file system that has no such thing says so; there each
//! block goes through the cache, and out of it at once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use memmap2::MmapMut;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, PosixFadviseAdvice, fcntl, posix_fadvise};

use crate::limits::SNAPSHOT_BLOCK_BYTES;

/// What has been written, or read, and one block more.
#[derive(Debug)]
struct Blocks {
    file: File,
    /// Where the next block begins. Always at a multiple of blocks, but for the last one.
    offset: u64,
    /// Aligned to a page, as the system wants it.
    buffer: MmapMut,
    bypasses_cache: bool,
}

/// Writes such a file.
#[derive(Debug)]
pub struct UncachedWriter {
    blocks: Blocks,
    /// Bytes of the buffer that are still to be written.
    filled: usize,
}

/// Reads such a file.
#[derive(Debug)]
pub struct UncachedReader {
    blocks: Blocks,
    /// Bytes of the buffer that were read, and those of them that were given out.
    filled: usize,
    given: usize,
}

impl Blocks {
    fn of(file: File) -> io::Result<Self> {
        let buffer = MmapMut::map_anon(SNAPSHOT_BLOCK_BYTES)?;
        let bypasses_cache = bypass_cache(&file, true).is_ok();
        Ok(Self { file, offset: 0, buffer, bypasses_cache })
    }

    /// Writes so many bytes of the buffer.
    fn write(&mut self, len: usize) -> io::Result<()> {
        // What is no whole block is the end of the file, and cannot go past the cache.
        if len < self.buffer.len() {
            self.use_cache()?;
        }
        self.by_block(|file, buffer, offset| file.write_all_at(&buffer[..len], offset))?;
        if !self.bypasses_cache {
            self.file.sync_data()?;
            self.forget();
        }
        self.offset += len as u64;
        Ok(())
    }

    /// Reads a block, or less at the file's end. Says how much.
    fn read(&mut self) -> io::Result<usize> {
        let len = self.by_block(File::read_at)?;
        if !self.bypasses_cache {
            self.forget();
        }
        self.offset += len as u64;
        Ok(len)
    }

    /// Moves a block, through the cache where it has to be.
    fn by_block<T>(&mut self, act: impl Fn(&File, &mut [u8], u64) -> io::Result<T>) -> io::Result<T> {
        match act(&self.file, &mut self.buffer, self.offset) {
            Err(error) if self.bypasses_cache && is_refusal(&error) => {
                self.use_cache()?;
                act(&self.file, &mut self.buffer, self.offset)
            }
            done => done,
        }
    }

    fn use_cache(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.bypasses_cache) { bypass_cache(&self.file, false) } else { Ok(()) }
    }

    /// Lets the cache forget what it has of the file and the disk has, too.
    fn forget(&self) {
        // It is advice, and nothing is lost where it is not taken.
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

fn bypass_cache(file: &File, bypasses: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_DIRECT, bypasses);
    fcntl(file, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Whether that is what a system says to a transfer past its cache.
fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EINVAL as i32)
}

impl UncachedWriter {
    /// Writes an empty file.
    ///
    /// # Errors
    /// Where there is no memory for a block.
    pub fn new(file: File) -> io::Result<Self> {
        Ok(Self { blocks: Blocks::of(file)?, filled: 0 })
    }

    /// The file, with everything in it. The disk may not have all of it yet.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<File> {
        self.flush()?;
        Ok(self.blocks.file)
    }
}

impl Write for UncachedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filled == self.blocks.buffer.len() {
            self.flush()?;
        }
        let room = &mut self.blocks.buffer[self.filled..];
        let len = bytes.len().min(room.len());
        room[..len].copy_from_slice(&bytes[..len]);
        self.filled += len;
        Ok(len)
    }

    /// To be called at the end alone: what is no whole block goes through the cache, and all that comes behind it.
    fn flush(&mut self) -> io::Result<()> {
        if self.filled > 0 {
            self.blocks.write(self.filled)?;
            self.filled = 0;
        }
        Ok(())
    }
}

impl UncachedReader {
    /// Reads a file from its front.
    ///
    /// # Errors
    /// Where there is no memory for a block.
    pub fn new(file: File) -> io::Result<Self> {
        Ok(Self { blocks: Blocks::of(file)?, filled: 0, given: 0 })
    }
}

impl Read for UncachedReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.given == self.filled {
            (self.filled, self.given) = (self.blocks.read()?, 0);
        }
        let there = &self.blocks.buffer[self.given..self.filled];
        let len = bytes.len().min(there.len());
        bytes[..len].copy_from_slice(&there[..len]);
        self.given += len;
        Ok(len)
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    /// Bytes that repeat nowhere near a block's length.
    fn bytes(len: usize) -> Vec<u8> {
        (0..len as u32).flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_be_bytes()).take(len).collect()
    }

    /// Writes in steps of `step` bytes, and reads in other ones.
    fn assert_there_and_back(len: usize, step: usize, prepare: impl Fn(&mut Blocks)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = bytes(len);
        let mut writer = UncachedWriter::new(File::create_new(&path).unwrap()).unwrap();
        prepare(&mut writer.blocks);
        for part in bytes.chunks(step) {
            writer.write_all(part).unwrap();
        }
        assert_eq!(writer.finish().unwrap().metadata().unwrap().len(), len as u64);
        let mut reader = UncachedReader::new(File::open(&path).unwrap()).unwrap();
        prepare(&mut reader.blocks);
        let mut read = Vec::new();
        while (&mut reader).take(step as u64 + 1).read_to_end(&mut read).unwrap() > 0 {}
        assert!(read == bytes, "{len} bytes in steps of {step}");
    }

    #[test]
    fn what_is_written_is_read_at_every_length() {
        const BLOCK: usize = SNAPSHOT_BLOCK_BYTES;
        for len in [0, 1, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 4097] {
            assert_there_and_back(len, 100_001, |_| {});
            assert_there_and_back(len, 3 * BLOCK, |_| {});
        }
    }

    /// As on a file system that knows of no transfers past the cache, or notices in the middle.
    #[test]
    fn it_goes_through_the_cache_where_it_must() {
        let len = 2 * SNAPSHOT_BLOCK_BYTES + 77;
        assert_there_and_back(len, 65_537, |blocks| blocks.use_cache().unwrap());
        // An offset that is no multiple of the disk's blocks is refused, and taken by the cache.
        let folder = tempfile::tempdir().unwrap();
        let file = File::create_new(folder.path().join("file")).unwrap();
        let mut writer = UncachedWriter::new(file).unwrap();
        writer.blocks.offset = 1;
        writer.write_all(&bytes(SNAPSHOT_BLOCK_BYTES)).unwrap();
        assert_eq!(writer.finish().unwrap().metadata().unwrap().len(), SNAPSHOT_BLOCK_BYTES as u64 + 1);
    }
}
