//! Values by number, and results by their inputs.
//!
//! A state of the model holds numbers of values and not the values: it is a few hundred bytes, compared and hashed as
//! such. The step functions of the product are asked once for each input that is new, and what they answered is kept;
//! the key of each such table holds everything that the function is given.

use std::{fmt::Debug, hash::Hash, sync::Arc};

use dashmap::DashMap;
use parking_lot::RwLock;
use rustc_hash::FxBuildHasher;

/// Number of a value; 0 stands for none, or for its default.
pub type Id = u32;

/// Values that are told apart by everything that they print.
pub struct Values<T> {
    ids: DashMap<String, Id>,
    items: RwLock<Vec<Arc<T>>>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Values { ids: DashMap::new(), items: RwLock::new(Vec::new()) }
    }
}

impl<T: Debug> Values<T> {
    /// The number of `value`, from 1.
    pub fn put(&self, value: T) -> Id {
        let key = format!("{value:?}");
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let mut items = self.items.write();
        *self.ids.entry(key).or_insert_with(|| {
            items.push(Arc::new(value));
            Id::try_from(items.len()).expect("fewer than four billion values")
        })
    }

    /// The value with this number.
    ///
    /// # Panics
    ///
    /// There is none: 0 was not asked for.
    pub fn get(&self, id: Id) -> Arc<T> {
        Arc::clone(&self.items.read()[id as usize - 1])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Results of a pure function by its inputs.
pub struct Memo<K, V>(DashMap<K, V, FxBuildHasher>);

impl<K: Eq + Hash, V> Default for Memo<K, V> {
    fn default() -> Self {
        Memo(DashMap::with_hasher(FxBuildHasher))
    }
}

impl<K: Eq + Hash + Copy, V: Copy> Memo<K, V> {
    /// The result for `key`, computed when it is asked for the first time.
    pub fn of(&self, key: K, compute: impl FnOnce() -> V) -> V {
        if let Some(known) = self.0.get(&key) {
            return *known;
        }
        // Without the lock: it takes milliseconds, and asks other tables.
        let value = compute();
        self.0.insert(key, value);
        value
    }

    /// For how many inputs it was computed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it was never computed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
