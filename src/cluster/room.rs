//! How much memory what others wrote may take while a decision reads it.
//!
//! A tenant decides how large the objects of its namespace are, and JSON takes up to sixty times as much memory as it has
//! bytes. A reading that is small waits for nobody; a larger one waits for its turn, so that there is one at a time; and
//! one that takes more than it may is no reading: the target cannot be read, and people are called.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::lean;

/// Bytes in memory of a reading that waits for nobody: some forty pods.
pub const SMALL: usize = 2 << 20;
/// The same of a page of pods that is looked at and dropped, where other bounds keep the number of readers small.
pub const PAGE: usize = 8 << 20;
/// Bytes in memory of a whole reading: a workload with its revisions and some 1,200 pods of a usual size.
pub const READING: usize = 64 << 20;
/// The same of one object.
pub const OBJECT: usize = 8 << 20;

/// One reading that is larger than [`SMALL`] at a time.
static LARGE: Semaphore = Semaphore::const_new(1);

/// Why a text is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It would take more memory than is left for the reading.
    #[error("takes more than {limit} bytes in memory")]
    TooLarge {
        /// Bytes in memory that the reading may take.
        limit: usize,
    },
    /// It is no JSON.
    #[error("the answer is not what it should be: {0}")]
    NoJson(#[from] serde_json::Error),
}

/// What one reading may take. A large one keeps its turn as long as this lives: keep it as long as what was read.
#[derive(Debug)]
pub struct Room {
    small: usize,
    most: usize,
    taken: Mutex<usize>,
    turn: OnceCell<SemaphorePermit<'static>>,
}

impl Room {
    /// Room for `most` bytes, of which `small` wait for no turn.
    pub fn new(small: usize, most: usize) -> Room {
        Room { small, most, taken: Mutex::default(), turn: OnceCell::new() }
    }

    /// Decodes an answer of the API server, which may take `limit` bytes by itself. Without `owners`, the items of a list
    /// are without `managedFields`.
    pub async fn decode(&self, text: &str, limit: usize, owners: bool) -> Result<Value, Unfit> {
        if !self.turn.initialized() {
            if let Some(value) = self.take(text, limit.min(self.small), self.small, owners)? {
                return Ok(value);
            }
            // It is never closed.
            let _ = self.turn.get_or_try_init(|| LARGE.acquire()).await;
        }
        let too_large = Unfit::TooLarge { limit: limit.min(self.most) };
        self.take(text, limit, self.most, owners)?.ok_or(too_large)
    }

    fn take(&self, text: &str, limit: usize, most: usize, owners: bool) -> Result<Option<Value>, Unfit> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = most.saturating_sub(*taken).min(limit);
        Ok(lean::weighed(text, left, owners)?.map(|(value, bytes)| {
            *taken += bytes;
            value
        }))
    }

    /// Bytes that what was read takes.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_is_read_within_its_room_is_what_it_would_be_without_one() {
        let list = json!({"metadata": {"continue": "x"}, "items": [
            {"metadata": {"name": "a", "labels": {"managedFields": "y"}, "managedFields": [{"manager": "m"}]},
                "spec": {"n": [1, -2, 0.5, null, true, {"metadata": "z"}], "managedFields": []}}]});
        let room = Room::new(SMALL, READING);
        assert_eq!(room.decode(&list.to_string(), READING, true).await.unwrap(), list);
        let mut lean = list.clone();
        lean["items"][0]["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(room.decode(&list.to_string(), READING, false).await.unwrap(), lean);
        assert!(room.decode("{} {}", READING, true).await.is_err() && room.decode("{", READING, false).await.is_err());
    }

    #[tokio::test]
    async fn many_small_maps_count_what_they_take_and_not_what_they_are_written_in() {
        let dense = json!(vec![json!({"a": ""}); 20_000]).to_string();
        assert!(dense.len() < 200_000);
        let room = Room::new(SMALL, READING);
        room.decode(&dense, READING, true).await.unwrap();
        assert!(room.taken() > 10 << 20, "{}", room.taken());
        assert!(matches!(room.decode(&dense, OBJECT, true).await, Err(Unfit::TooLarge { limit: OBJECT })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_reading_waits_for_its_turn_and_a_small_one_does_not() {
        let (large, small) = (json!("x".repeat(SMALL)).to_string(), json!("x").to_string());
        let first = Room::new(SMALL, READING);
        first.decode(&large, READING, true).await.unwrap();
        let second = Room::new(SMALL, READING);
        second.decode(&small, READING, true).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_secs(60), second.decode(&large, READING, true)).await;
        assert!(waits.is_err(), "there is one at a time");
        drop(first);
        second.decode(&large, READING, true).await.unwrap();
    }
}
