//! A session's data: what was loaded, and the changes staged on top of it, key by key.
//!
//! Changes of overlapping requests merge because a change is kept as what it does to a key, not as the
//! value of the whole session: on another version of the record they are applied again
//! ([`Data::rebase`]). A closure of `update` is kept, too, and runs on the newest value then.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::record::RecordDecodeError;
use crate::record::payload::{Entries, encode_entry, entry_size};

mod staged;

use self::staged::{Change, From, Staged};

/// A closure of `update`, from the JSON of the present value to that of the next.
pub(crate) type Replay = Arc<dyn Fn(Option<&[u8]>) -> Result<Arc<[u8]>, Error> + Send + Sync>;

/// The entries of a payload as they were loaded. They are framed well: that was checked.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// `None` where nothing was loaded: an empty one would be counted by all threads in one place.
    payload: Option<Arc<[u8]>>,
    start: usize,
    size: usize,
}

impl Loaded {
    pub(crate) fn nothing() -> Self {
        Self {
            payload: None,
            start: 0,
            size: 0,
        }
    }

    /// The entries that begin at `start` of this payload.
    pub(crate) fn new(payload: Arc<[u8]>, start: usize) -> Result<Self, RecordDecodeError> {
        Entries::new(&payload[start..]).try_for_each(|entry| entry.map(drop))?;
        Ok(Self::written(payload, start))
    }

    /// The entries of a payload that was encoded just now.
    pub(crate) fn written(payload: Arc<[u8]>, start: usize) -> Self {
        let size = payload.len() - start;
        Self {
            payload: Some(payload),
            start,
            size,
        }
    }

    fn bytes(&self) -> &[u8] {
        let payload = self.payload.as_deref().unwrap_or_default();
        &payload[self.start..]
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        Entries::new(self.bytes()).map_while(Result::ok)
    }

    fn find(&self, key: &str) -> Option<&[u8]> {
        Entries::new(self.bytes()).find(key)
    }

    fn get(&self, key: &str) -> Option<Value> {
        let value = self.find(key)?;
        let payload = self.payload.as_ref()?;
        let start = value.as_ptr().addr() - payload.as_ptr().addr();
        Some(Value {
            bytes: payload.clone(),
            range: start..start + value.len(),
        })
    }
}

/// The JSON of one value, shared with the session it is of: it is read outside the lock, without a copy.
pub(crate) struct Value {
    bytes: Arc<[u8]>,
    range: Range<usize>,
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

/// Changes that are not in the store yet.
#[derive(Clone, Default)]
pub(crate) struct Changes {
    /// How often everything was cleared; the entries are those staged after the last time.
    clears: u32,
    entries: Staged,
}

/// What a handler sees: the loaded entries under the staged changes.
#[derive(Clone)]
pub(crate) struct Data {
    loaded: Loaded,
    changes: Changes,
    /// Bytes that the entries take up in a payload.
    size: usize,
    /// The limit on `size`.
    max_size: usize,
}

impl Data {
    pub(crate) fn new(loaded: Loaded, max_size: usize) -> Self {
        Self {
            size: loaded.size,
            loaded,
            changes: Changes::default(),
            max_size,
        }
    }

    pub(crate) fn into_loaded(self) -> Loaded {
        self.loaded
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Whether there are any staged changes, which may make no difference.
    pub(crate) fn has_changes(&self) -> bool {
        self.changes.clears > 0 || !self.changes.entries.is_empty()
    }

    /// Whether the staged changes make any difference to what was loaded. If they make none, then nothing
    /// is written, as if that had been done before any overlapping request wrote.
    pub(crate) fn is_changed(&self) -> bool {
        if !self.has_changes() {
            return false;
        }
        let staged = &self.changes.entries;
        let differs = |(key, change): (&Arc<str>, &Change)| {
            change.value().map(|value| &**value) != self.loaded.find(key)
        };
        let is_cleared = |(key, _): (&str, &[u8])| !staged.contains_key(key);
        staged.iter().any(differs)
            || self.changes.clears > 0 && self.loaded.entries().any(is_cleared)
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn max_size(&self) -> usize {
        self.max_size
    }

    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        match self.changes.entries.get(key) {
            Some(change) => change.value().map(|value| Value {
                bytes: value.clone(),
                range: 0..value.len(),
            }),
            None if self.changes.clears > 0 => None,
            None => self.loaded.get(key),
        }
    }

    /// As [`get`](Self::get), for those who hold the lock anyway.
    fn find(&self, key: &str) -> Option<&[u8]> {
        match self.changes.entries.get(key) {
            Some(change) => change.value().map(|value| &**value),
            None if self.changes.clears > 0 => None,
            None => self.loaded.find(key),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.size == 0
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.entries().map(|(key, _)| key.to_owned()).collect()
    }

    /// Sets a key.
    pub(crate) fn set(&mut self, key: &str, value: Arc<[u8]>) -> Result<(), Error> {
        self.stage(key, |_| Change::set(value.clone()), Some(&value))
    }

    /// Sets a key to what a closure made of its present value, and keeps the closure.
    pub(crate) fn update(
        &mut self,
        key: &str,
        value: Arc<[u8]>,
        replay: Replay,
    ) -> Result<(), Error> {
        let cleared = self.changes.clears > 0;
        let change = |before: Option<Change>| {
            let mut change = before.unwrap_or(Change {
                from: if cleared { From::Cleared } else { From::Loaded },
                replays: Vec::new(),
                value: None,
            });
            change.push(replay, value.clone());
            change
        };
        self.stage(key, change, Some(&value))
    }

    /// Removes a key; whether it was there.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        // Removing makes the session no larger, so that the limit cannot refuse it.
        self.find(key).is_some() && self.stage(key, |_| Change::removed(), None).is_ok()
    }

    /// Removes every key, also such as an overlapping request adds before this change is saved.
    pub(crate) fn clear(&mut self) {
        if self.is_empty() {
            return;
        }
        self.changes.entries = Staged::default();
        self.changes.clears += 1;
        self.size = 0;
    }

    /// Forgets every change that is not saved.
    pub(crate) fn discard_changes(&mut self) {
        self.changes = Changes::default();
        self.size = self.loaded.size;
    }

    /// The same changes on top of other entries.
    ///
    /// # Errors
    ///
    /// When the entries and the changes together are larger than the limit, or a closure cannot read the
    /// newest value.
    pub(crate) fn rebase(&self, loaded: Loaded) -> Result<Self, Error> {
        // The limit is on what they come to: in between, what grows may stand before what makes room for it.
        let mut data = Self::new(loaded, usize::MAX);
        if self.changes.clears > 0 {
            data.changes.clears = self.changes.clears;
            data.size = 0;
        }
        for (key, change) in self.changes.entries.iter() {
            match (&change.from, &change.value) {
                (From::Loaded, _) => {
                    for replay in &change.replays {
                        let value = replay(data.find(key))?;
                        data.update(key, value, replay.clone())?;
                    }
                }
                // What the closures saw was set or removed by this very request, whatever the store holds.
                (_, Some(value)) => data.stage(key, |_| change.clone(), Some(value))?,
                (_, None) => {
                    data.remove(key);
                    // Kept even where the key is absent, so that it stays removed on the next rebase.
                    data.changes.entries.insert(key.clone(), change.clone());
                }
            }
        }
        data.max_size = self.max_size;
        if data.size > data.max_size && data.size > data.loaded.size {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the changes of this request and those of others would make the session {} bytes, \
                     more than the limit of {}: store less, or raise \
                     SessionLayerBuilder::max_session_size",
                    data.size, data.max_size,
                ),
            ));
        }
        Ok(data)
    }

    /// Goes on from what was saved: the entries that are in the store now, under the changes that were
    /// staged while `saved` was on its way. What was saved need not be staged here any more: a login on the
    /// session of somebody else leaves that one in between.
    ///
    /// # Errors
    ///
    /// As [`rebase`](Self::rebase). The changes that were staged meanwhile are dropped then.
    pub(crate) fn advance(&mut self, saved: &Changes, loaded: Loaded) -> Result<(), Error> {
        let cleared_since = self.changes.clears > saved.clears;
        self.changes.clears = self.changes.clears.saturating_sub(saved.clears);
        if !cleared_since {
            self.changes
                .entries
                .retain(|key, change| match saved.entries.get(key) {
                    Some(saved) if change.goes_on_from(saved) => {
                        change.replays.drain(..saved.replays.len());
                        change.from = From::Loaded;
                        !change.replays.is_empty()
                    }
                    None if matches!(change.from, From::Cleared) => {
                        change.from = From::Loaded;
                        true
                    }
                    _ => true,
                });
        }
        let rebased = self.rebase(loaded.clone());
        // Without the changes that cannot be, it is still what is in the store that the next write is
        // based on: to go on from the entries before would write those back.
        *self = Self::new(loaded, self.max_size);
        *self = rebased?;
        Ok(())
    }

    /// Appends the entries to the bytes of a payload.
    pub(crate) fn encode(&self, payload: &mut Vec<u8>) {
        for (key, value) in self.entries() {
            encode_entry(payload, key, value);
        }
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let staged = &self.changes.entries;
        let untouched = (self.changes.clears == 0).then(|| self.loaded.entries());
        untouched
            .into_iter()
            .flatten()
            .filter(|(key, _)| !staged.contains_key(key))
            .chain(
                staged
                    .iter()
                    .filter_map(|(key, change)| Some((&**key, &**change.value()?))),
            )
    }

    fn stage(
        &mut self,
        key: &str,
        change: impl FnOnce(Option<Change>) -> Change,
        value: Option<&[u8]>,
    ) -> Result<(), Error> {
        let before = self.find(key).map_or(0, |value| entry_size(key, value));
        let after = value.map_or(0, |value| entry_size(key, value));
        let size = self.size - before + after;
        if size > self.max_size && after > before {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "{} bytes under the key {key:?} would make the session {size} bytes, more than the \
                     limit of {}: store less, or raise SessionLayerBuilder::max_session_size",
                    value.map_or(0, <[u8]>::len),
                    self.max_size,
                ),
            ));
        }
        let before = self.changes.entries.remove(key);
        self.changes.entries.insert(key.into(), change(before));
        self.size = size;
        Ok(())
    }
}

/// Says how much there is, and nothing of it.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Says how much there is, and nothing of it.
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("size", &self.size)
            .field("changed_keys", &self.changes.entries.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(entries: &[(&str, &str)]) -> Loaded {
        let mut payload = Vec::new();
        for (key, value) in entries {
            encode_entry(&mut payload, key, value.as_bytes());
        }
        Loaded::new(payload[..].into(), 0).unwrap()
    }

    fn data(entries: &[(&str, &str)]) -> Data {
        Data::new(loaded(entries), 1_000)
    }

    fn set(data: &mut Data, key: &str, value: &str) {
        data.set(key, value.as_bytes().into()).unwrap();
    }

    /// Appends a letter: as good as an increment, and it shows the order.
    fn append(data: &mut Data, key: &str, letter: &'static str) {
        let replay: Replay = Arc::new(move |before: Option<&[u8]>| {
            Ok([before.unwrap_or_default(), letter.as_bytes()]
                .concat()
                .into())
        });
        let value = replay(data.get(key).as_deref()).unwrap();
        data.update(key, value, replay).unwrap();
    }

    fn contents(data: &Data) -> Vec<(String, String)> {
        let mut payload = Vec::new();
        data.encode(&mut payload);
        assert_eq!(payload.len(), data.size, "the size is counted right");
        let mut entries: Vec<_> = Entries::new(&payload)
            .map(|entry| {
                let (key, value) = entry.unwrap();
                (key.to_owned(), String::from_utf8(value.to_vec()).unwrap())
            })
            .collect();
        entries.sort();
        entries
    }

    #[track_caller]
    fn assert_contents(data: &Data, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        assert_eq!(contents(data), expected);
    }

    #[test]
    fn changes_lie_over_what_was_loaded() {
        let mut data = data(&[("a", "1"), ("b", "2")]);
        set(&mut data, "a", "9");
        assert!(data.remove("b"));
        assert!(!data.remove("b"));
        set(&mut data, "c", "3");
        assert_eq!(data.get("a").as_deref(), Some(&b"9"[..]));
        assert!(data.get("b").is_none());
        assert_contents(&data, &[("a", "9"), ("c", "3")]);
        assert_eq!(data.keys(), ["a", "c"]);
    }

    #[test]
    fn removing_or_clearing_nothing_is_no_change() {
        let mut data = data(&[]);
        data.remove("a");
        data.clear();
        assert!(!data.is_changed());
    }

    #[test]
    fn changes_to_what_is_there_already_are_none() {
        let stored = || data(&[("a", "1"), ("b", "2"), ("n", "x")]);
        let mut same = stored();
        set(&mut same, "a", "1");
        same.remove("b");
        set(&mut same, "b", "2");
        assert!(!same.is_changed());
        same.clear();
        for (key, value) in [("a", "1"), ("b", "2"), ("n", "x")] {
            set(&mut same, key, value);
        }
        assert!(!same.is_changed());

        let changes: [fn(&mut Data); 5] = [
            |data| set(data, "a", "2"),
            |data| set(data, "c", "1"),
            |data| assert!(data.remove("a")),
            |data| data.clear(),
            |data| append(data, "n", "+"),
        ];
        for change in changes {
            let mut data = stored();
            change(&mut data);
            assert!(data.is_changed());
        }
    }

    #[test]
    fn changes_merge_key_by_key_with_a_newer_version() {
        let mut ours = data(&[("a", "1"), ("b", "2"), ("n", "x")]);
        set(&mut ours, "a", "ours");
        ours.remove("b");
        append(&mut ours, "n", "+");
        append(&mut ours, "n", "*");
        let merged = ours
            .rebase(loaded(&[
                ("a", "theirs"),
                ("b", "theirs"),
                ("c", "theirs"),
                ("n", "yy"),
            ]))
            .unwrap();
        assert_contents(&merged, &[("a", "ours"), ("c", "theirs"), ("n", "yy+*")]);
    }

    #[test]
    fn an_update_of_a_value_set_by_this_request_is_settled() {
        let mut ours = data(&[("n", "x")]);
        set(&mut ours, "n", "o");
        append(&mut ours, "n", "+");
        let merged = ours.rebase(loaded(&[("n", "theirs")])).unwrap();
        assert_contents(&merged, &[("n", "o+")]);

        let mut ours = data(&[("n", "x")]);
        ours.remove("n");
        append(&mut ours, "n", "+");
        let merged = ours.rebase(loaded(&[("n", "theirs")])).unwrap();
        assert_contents(&merged, &[("n", "+")]);
    }

    #[test]
    fn clear_removes_what_others_added_and_nothing_set_after_it() {
        let mut ours = data(&[("a", "1"), ("n", "x")]);
        set(&mut ours, "b", "2");
        ours.clear();
        assert!(ours.is_empty());
        append(&mut ours, "n", "+");
        let merged = ours
            .rebase(loaded(&[("a", "1"), ("c", "theirs"), ("n", "y")]))
            .unwrap();
        assert_contents(&merged, &[("n", "+")]);
    }

    #[test]
    fn a_removal_survives_a_rebase_on_entries_without_the_key() {
        let mut ours = data(&[("a", "1")]);
        ours.remove("a");
        let merged = ours.rebase(loaded(&[])).unwrap();
        let merged = merged.rebase(loaded(&[("a", "back")])).unwrap();
        assert_contents(&merged, &[]);
    }

    #[test]
    fn changes_staged_during_a_save_remain() {
        let mut ours = data(&[("n", "x")]);
        set(&mut ours, "a", "1");
        set(&mut ours, "b", "1");
        append(&mut ours, "n", "+");
        let saved = ours.changes().clone();
        let in_store = loaded(&[("a", "1"), ("b", "1"), ("n", "x+")]);
        set(&mut ours, "b", "2");
        append(&mut ours, "n", "*");
        ours.advance(&saved, in_store).unwrap();
        assert_contents(&ours, &[("a", "1"), ("b", "2"), ("n", "x+*")]);
        assert_eq!(ours.changes().entries.len(), 2, "a is saved");
        let elsewhere = ours.rebase(loaded(&[("n", "z")])).unwrap();
        assert_contents(&elsewhere, &[("b", "2"), ("n", "z*")]);
    }

    #[test]
    fn a_clear_during_a_save_remains_and_one_before_is_done_with() {
        let mut ours = data(&[("a", "1")]);
        ours.clear();
        set(&mut ours, "b", "2");
        let saved = ours.changes().clone();
        let in_store = loaded(&[("b", "2")]);
        let mut quiet = ours.clone();
        quiet.advance(&saved, in_store.clone()).unwrap();
        assert!(!quiet.is_changed());
        assert_contents(&quiet, &[("b", "2")]);

        ours.clear();
        ours.advance(&saved, in_store).unwrap();
        assert_contents(&ours, &[]);
        assert!(ours.is_changed());
    }

    #[test]
    fn updates_staged_during_a_save_of_what_they_began_with_are_applied_to_the_newest_value() {
        let beginnings: [fn(&mut Data); 5] = [
            |data| set(data, "n", "o"),
            |data| assert!(data.remove("n")),
            |data| data.clear(),
            |data| {
                data.clear();
                append(data, "n", "o");
            },
            |data| {
                set(data, "n", "");
                append(data, "n", "o");
            },
        ];
        for begin in beginnings {
            let mut ours = data(&[("n", "x")]);
            begin(&mut ours);
            let saved = ours.changes().clone();
            let mut payload = Vec::new();
            ours.encode(&mut payload);
            let in_store = Loaded::new(payload[..].into(), 0).unwrap();
            append(&mut ours, "n", "+");
            let seen = contents(&ours);
            ours.advance(&saved, in_store).unwrap();
            assert_eq!(contents(&ours), seen);
            let merged = ours.rebase(loaded(&[("n", "theirs")])).unwrap();
            assert_contents(&merged, &[("n", "theirs+")]);
        }
    }

    #[test]
    fn what_is_set_or_removed_anew_during_a_save_remains() {
        let anew: [fn(&mut Data); 2] = [
            |data| set(data, "n", ""),
            |data| {
                set(data, "n", "y");
                assert!(data.remove("n"));
            },
        ];
        let saves: [fn(&mut Data); 2] = [|_| {}, |data| append(data, "n", "o")];
        for (change, save) in anew
            .iter()
            .flat_map(|&change| saves.map(|save| (change, save)))
        {
            let mut ours = data(&[("n", "x")]);
            ours.clear();
            save(&mut ours);
            let saved = ours.changes().clone();
            change(&mut ours);
            append(&mut ours, "n", "+");
            ours.advance(&saved, loaded(&[])).unwrap();
            let merged = ours.rebase(loaded(&[("n", "theirs")])).unwrap();
            assert_contents(&merged, &[("n", "+")]);
        }
    }

    #[test]
    fn an_update_that_is_staged_after_one_on_its_way_was_dropped_is_still_to_be_saved() {
        let mut ours = data(&[("n", "x")]);
        append(&mut ours, "n", "+");
        let saved = ours.changes().clone();
        ours.discard_changes();
        append(&mut ours, "n", "*");
        ours.advance(&saved, loaded(&[("n", "x+")])).unwrap();
        assert_contents(&ours, &[("n", "x+*")]);
    }

    #[test]
    fn the_limit_is_met_exactly_and_a_refusal_changes_nothing() {
        let mut data = Data::new(loaded(&[("a", "1")]), 20);
        let error = data.set("b", b"22".to_vec().into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("\"b\"") && error.to_string().contains("limit of 20"));
        assert_contents(&data, &[("a", "1")]);
        data.set("b", b"2".to_vec().into()).unwrap();
        assert_contents(&data, &[("a", "1"), ("b", "2")]);
    }

    #[test]
    fn a_session_over_the_limit_can_shrink() {
        let mut data = Data::new(loaded(&[("a", "1111111111"), ("b", "2")]), 10);
        data.set("a", b"1".to_vec().into()).unwrap();
        assert!(data.remove("b"));
        let error = data.set("a", b"11".to_vec().into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_contents(&data, &[("a", "1")]);
    }

    #[test]
    fn a_merge_is_as_large_as_what_it_comes_to_and_not_larger_in_between() {
        let mut ours = Data::new(loaded(&[("z", "1234567890")]), 20);
        ours.remove("z");
        ours.set("a", b"1234567890".to_vec().into()).unwrap();
        let merged = ours.rebase(loaded(&[("z", "0987654321")])).unwrap();
        assert_contents(&merged, &[("a", "1234567890")]);
        let error = merged.clone().set("b", b"2".to_vec().into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "the limit still holds");
    }

    #[test]
    fn a_merge_over_the_limit_is_an_error() {
        let mut ours = Data::new(loaded(&[]), 20);
        ours.set("a", b"1234567890".to_vec().into()).unwrap();
        let error = ours.rebase(loaded(&[("b", "1234567890")])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("limit of 20"), "{error}");
    }
}
