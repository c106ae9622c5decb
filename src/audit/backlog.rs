//! Records of what has happened that the log could not take yet.

use std::collections::VecDeque;

use super::Record;

/// Records that wait at most.
const RECORDS: usize = 10_000;
/// Bytes that they take at most, as JSON.
const BYTES: usize = 4 << 20;

/// A bounded queue in memory. What finds no room is counted.
#[derive(Default)]
pub(super) struct Backlog {
    records: VecDeque<(usize, Record)>,
    bytes: usize,
    lost: u64,
}

impl Backlog {
    /// Keeps `record` if there is room. The oldest stay: they tell how it began.
    pub fn push(&mut self, record: Record) -> bool {
        let bytes = serde_json::to_vec(&record).map_or(0, |text| text.len());
        if self.records.len() >= RECORDS || self.bytes + bytes > BYTES {
            self.lost += 1;
            return false;
        }
        self.bytes += bytes;
        self.records.push_back((bytes, record));
        true
    }

    /// Up to `max` of the oldest.
    pub fn oldest(&self, max: usize) -> Vec<Record> {
        self.records.iter().take(max).map(|(_, record)| record.clone()).collect()
    }

    /// The oldest `count` are on the disk.
    pub fn written(&mut self, count: usize) {
        for (bytes, _) in self.records.drain(..count.min(self.records.len())) {
            self.bytes -= bytes;
        }
    }

    /// Records that wait.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Records that were lost since this was last told.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// It is on record how many were lost.
    pub fn told(&mut self) {
        self.lost = 0;
    }
}
