//! Whether all parts of the engine tell the same story.

use crate::storage::engine::Engine;
use crate::storage::log::Stored;

impl Engine {
    /// Holds log, index, blocks and figures against each other, record by record. For tests: it takes as long as there
    /// are records.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn verify(&self) -> Result<(), String> {
        let (mut records, mut item_bytes, mut blocks, mut flushed) = (0, 0, 0, 0);
        self.log.verify(|at| {
            let record = self.log.record(at);
            if !self.index.holds(record.header.hash(), at) {
                return Err(format!("{}: not in the index", record.key.escape_ascii()));
            }
            let found = self.index.find(record.header.hash(), |at| self.log.key(at) == record.key);
            if found != Some(at) {
                return Err(format!("{}: there is another one, {found:?}", record.key.escape_ascii()));
            }
            if let Stored::Block(number) = record.value {
                blocks += 1;
                if self.blocks.get(number).len() != record.header.value_len() {
                    return Err(format!("{}: a block of another length", record.key.escape_ascii()));
                }
            }
            records += 1;
            flushed += usize::from(self.flushes.is_flushed(record.header.cas()));
            item_bytes += record.header.item_bytes();
            Ok(())
        })?;
        let told = (self.index.len(), self.item_bytes, self.blocks.count(), self.flushed_count);
        if told != (records, item_bytes, blocks, flushed) {
            return Err(format!(
                "{told:?} items, their bytes, blocks and flushed ones are told, there are {records}, {item_bytes}, \
                 {blocks}, {flushed}"
            ));
        }
        Ok(())
    }
}
