//! Writing the stream: packets go through, and seals come between them.

use std::io::{self, Write};

use crate::clock::UnixSeconds;
use crate::limits::SNAPSHOT_SEAL_BYTES;
use crate::snapshot::format::{Mark, Opening, Sum, flush_packet};

/// Writes a snapshot.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    crc: u32,
    bytes: u64,
    sealed_bytes: u64,
    items: u64,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    ///
    /// # Errors
    /// Those of `to`, as everywhere here.
    pub fn open(to: W, opening: Opening, pending_flush: Option<UnixSeconds>) -> io::Result<Self> {
        let mut writer = Self { to, crc: 0, bytes: 0, sealed_bytes: 0, items: 0 };
        writer.write(&Mark::Opening(opening).packet())?;
        if let Some(at) = pending_flush {
            writer.write(&flush_packet(at))?;
        }
        writer.seal()?;
        Ok(writer)
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Items so far.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Writes a part of some packets.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Says that `items` have been written whole, and nothing else since the last time.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn count(&mut self, items: u64) -> io::Result<()> {
        self.items += items;
        if self.bytes - self.sealed_bytes >= SNAPSHOT_SEAL_BYTES as u64 { self.seal() } else { Ok(()) }
    }

    /// Ends the stream, and gives back what it went to.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn close(mut self) -> io::Result<W> {
        let sum = self.sum();
        self.write(&Mark::Closing(sum).packet())?;
        self.to.flush()?;
        Ok(self.to)
    }

    /// What it writes to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.to
    }

    fn sum(&self) -> Sum {
        Sum { items: self.items, crc: self.crc }
    }

    fn seal(&mut self) -> io::Result<()> {
        let sum = self.sum();
        self.write(&Mark::Seal(sum).packet())?;
        self.sealed_bytes = self.bytes;
        Ok(())
    }
}
