//! What the meta commands do besides what all others do.
//!
//! An item that is stale is told, with the mark `X`, until a client brings another value. Exactly one of those who read
//! it wins (`W`), and is to bring it; the others see that somebody has won (`Z`). A new version of the client's own
//! (`E`) stands beside the engine's, and is what clients are told: the order of the engine's versions, by which a flush
//! is one comparison, is never the client's to break.

use std::num::NonZeroU32;

use wire::{Concat, Expiration};

use crate::message::{
    Content, MetaCount, MetaDelete, MetaGet, MetaMode, MetaStore, Moment, Older, Reading, Reply, State, Told,
};
use crate::storage::detail::Event;
use crate::storage::engine::{Answers, Engine};
use crate::storage::expiry::unix_time;
use crate::storage::items::{Item, Marked, NewValue};
use crate::storage::log::Address;
use crate::storage::log::record::{FETCHED, RecordHeader, STALE, TOKEN_SENT};

impl Engine {
    /// `mg`. It counts as a touch where it sets the expiration, else as a read.
    pub(super) fn meta_get(
        &mut self,
        item: Item<'_>,
        content: Content,
        reading: Reading,
        options: &MetaGet,
        answers: &mut Answers<'_>,
    ) -> Reply {
        let found = self.lookup_or_count(item);
        let Some(at) = found.or_else(|| self.vivify(item, options)) else {
            self.counters.cmd_get += 1;
            self.counters.get_misses += 1;
            return Reply::NotFound;
        };
        let is_known = options.known_cas.is_some_and(|cas| self.has_version(at, cas));
        let content = if content == Content::Value && !is_known {
            match self.hit(at, answers) {
                Reply::Hit { value, .. } => Told::Value(value),
                refused => return refused,
            }
        } else {
            Told::Length(self.log.header(at).value_len() as u32)
        };
        let (touched, ttl) = self.touch_telling(at, options.touch, options.tells_ttl);
        if touched {
            self.counters.cmd_touch += 1;
            self.counters.touch_hits += 1;
        } else {
            self.counters.cmd_get += 1;
            self.counters.get_hits += 1;
        }
        let header = *self.log.header(at);
        let state = self.state(&header, found.is_none(), options.recache);
        if state.has(State::WON) {
            self.log.header_mut(at).mark(TOKEN_SENT);
        }
        if reading == Reading::Noted {
            self.note_read(at);
        }
        let idle = header.idle(self.now);
        Reply::Found { flags: header.flags(), cas: self.version(at), content, ttl, idle, state }
    }

    /// A missing item without a value, where it is to be made.
    fn vivify(&mut self, item: Item<'_>, options: &MetaGet) -> Option<Address> {
        let expiration = unix_time(options.vivify?, self.now);
        let marked = Marked { own_cas: options.new_cas, ..Marked::default() };
        self.write_marked(item, None, 0, expiration, NewValue::Inline(&[]), marked).ok()?;
        self.find(item)
    }

    /// What is told of an item, and whether who is told has won.
    fn state(&self, header: &RecordHeader, is_new: bool, recache: Option<Expiration>) -> State {
        let ends = header.expiration();
        let ends_before = |by| ends != 0 && ends < unix_time(by, self.now);
        let (is_stale, is_sent) = (header.is(STALE), header.is(TOKEN_SENT));
        let wins = is_new || (!is_sent && (is_stale || recache.is_some_and(ends_before)));
        State::default()
            .with_if(State::FETCHED, header.is(FETCHED))
            .with_if(State::STALE, is_stale)
            .with_if(State::SENT, is_sent)
            .with_if(State::WON, wins)
    }

    /// Sets the expiration, where there is a new one, and says whether there was, and what is left.
    fn touch_telling(
        &mut self,
        at: Address,
        touch: Option<Expiration>,
        tells: Moment,
    ) -> (bool, Option<NonZeroU32>) {
        let before = self.ttl(at);
        if let Some(expiration) = touch {
            let expiration = unix_time(expiration, self.now);
            self.set_expiration(at, expiration);
        }
        (touch.is_some(), if tells == Moment::Before { before } else { self.ttl(at) })
    }

    /// Seconds until an item ends, one at least.
    fn ttl(&self, at: Address) -> Option<NonZeroU32> {
        let ends = Some(self.log.header(at).expiration()).filter(|ends| *ends != 0)?;
        NonZeroU32::new(ends.saturating_sub(self.now).max(1))
    }

    /// `ms`. Whatever it was to do, no older value stays where its value cannot be stored.
    pub(super) fn meta_store(&mut self, item: Item<'_>, options: &MetaStore, value: NewValue<'_>) -> Reply {
        self.counters.cmd_set += 1;
        self.note(item, Event::Set);
        let found = self.lookup(item);
        let own_cas = options.new_cas;
        let mut expiration = unix_time(options.expiration, self.now);
        let mut marks = 0;
        match options.mode {
            MetaMode::Concat { side, vivify } => match (found, vivify) {
                (Some(at), _) => return self.meta_concat(item, at, side, options, value),
                (None, None) => return Reply::NotStored,
                (None, Some(vivify)) => expiration = unix_time(vivify, self.now),
            },
            MetaMode::Store(mode) => match found.filter(|at| self.is_newer(*at, options)) {
                // What is older than what is there comes with the end of that, and with its winner.
                Some(at) => {
                    let header = self.log.header(at);
                    expiration = header.expiration();
                    marks = if header.is(TOKEN_SENT) { STALE | TOKEN_SENT } else { STALE };
                }
                None => {
                    if let Err(refused) = self.admit(mode, options.cas, found) {
                        return refused;
                    }
                }
            },
        }
        let value_bytes = value.len();
        match self.write_marked(item, found, options.flags, expiration, value, Marked { marks, own_cas }) {
            Ok(cas) => Reply::MetaStored { cas, value_bytes },
            Err(why) => self.unstorable(item, why, Older::Delete),
        }
    }

    /// Whether an item is newer than the version that it must have, and may be.
    fn is_newer(&self, at: Address, options: &MetaStore) -> bool {
        let version = self.version(at).map(wire::Cas::get);
        let is_older = |cas: u64| cas != 0 && version.is_some_and(|version| cas < version);
        options.allows_older && options.cas.is_some_and(is_older)
    }

    fn meta_concat(
        &mut self,
        item: Item<'_>,
        at: Address,
        side: Concat,
        options: &MetaStore,
        value: NewValue<'_>,
    ) -> Reply {
        let value_bytes = self.log.header(at).value_len() + value.len();
        let marked = Marked { own_cas: options.new_cas, ..Marked::default() };
        match self.concat_at(item, at, side, options.cas, value, marked) {
            Reply::Stored { cas } => Reply::MetaStored { cas, value_bytes },
            other => other,
        }
    }

    /// `md`. An item that stays is emptied, or made stale, or both.
    pub(super) fn meta_delete(&mut self, item: Item<'_>, options: &MetaDelete) -> Reply {
        self.note(item, Event::Delete);
        let Some(at) = self.lookup(item) else {
            self.counters.delete_misses += 1;
            return Reply::NotFound;
        };
        if options.cas.is_some_and(|cas| !self.has_version(at, cas)) {
            self.counters.delete_misses += 1;
            return Reply::Exists;
        }
        if !options.is_made_stale {
            self.counters.delete_hits += 1;
        }
        match (options.emptied, options.is_made_stale, options.new_cas) {
            (Some((flags, expiration)), _, _) => self.empty(item, at, flags, expiration, options),
            (None, true, Some(_)) => self.renew_as_stale(item, at, options),
            (None, true, None) => self.make_stale(at, options),
            (None, false, _) => {
                self.unlink(at);
                Reply::Done
            }
        }
    }

    /// Takes the value away. The version that clients are told stays, unless they give one, or the item is made stale.
    fn empty(
        &mut self,
        item: Item<'_>,
        at: Address,
        flags: u32,
        expiration: Expiration,
        options: &MetaDelete,
    ) -> Reply {
        let marked = if options.is_made_stale {
            Marked { marks: STALE, own_cas: options.new_cas }
        } else {
            Marked { marks: 0, own_cas: options.new_cas.or(self.version(at)) }
        };
        let expiration = unix_time(expiration, self.now);
        match self.write_marked(item, Some(at), flags, expiration, NewValue::Inline(&[]), marked) {
            Ok(_) => Reply::Done,
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    /// Marks an item where it lies. Its next reader wins.
    fn make_stale(&mut self, at: Address, options: &MetaDelete) -> Reply {
        self.touch_telling(at, options.touch, Moment::After);
        let header = self.log.header_mut(at);
        header.mark(STALE);
        header.unmark(TOKEN_SENT);
        let cas = self.next_cas();
        self.log.set_cas(at, cas);
        self.note_change(self.log.header(at).hash());
        self.newest_cas = cas.get();
        Reply::Done
    }

    /// The same where a version of the client's needs a place.
    fn renew_as_stale(&mut self, item: Item<'_>, at: Address, options: &MetaDelete) -> Reply {
        self.touch_telling(at, options.touch, Moment::After);
        let header = *self.log.header(at);
        let value = self.value_apart(at);
        self.copied_bytes += value.len();
        let fetched = if header.is(FETCHED) { FETCHED } else { 0 };
        let marked = Marked { marks: STALE | fetched, own_cas: options.new_cas };
        let value = if self.is_inline(item, value.len()) {
            NewValue::Inline(&value)
        } else {
            NewValue::Block(value.clone())
        };
        match self.write_marked(item, Some(at), header.flags(), header.expiration(), value, marked) {
            Ok(_) => Reply::Done,
            Err(why) => self.unstorable(item, why, Older::Keep),
        }
    }

    /// `ma`.
    pub(super) fn meta_count(&mut self, item: Item<'_>, options: &MetaCount) -> Reply {
        let MetaCount { direction, delta, on_miss, cas, touch, tells_ttl, new_cas } = *options;
        let reply = match self.lookup(item) {
            Some(at) => self.count_at(item, at, direction, delta, cas, new_cas),
            None => self.count_missing(item, direction, on_miss, new_cas),
        };
        match (reply, self.find(item)) {
            (Reply::Counted { value, cas }, Some(at)) => {
                let (_, ttl) = self.touch_telling(at, touch, tells_ttl);
                Reply::MetaCounted { value, cas, ttl }
            }
            (reply, _) => reply,
        }
    }

    /// `me`.
    pub(super) fn describe(&mut self, item: Item<'_>) -> Reply {
        self.counters.cmd_meta += 1;
        let Some(at) = self.lookup(item) else { return Reply::NotFound };
        let header = self.log.header(at);
        Reply::Described {
            cas: self.version(at),
            ttl: self.ttl(at),
            idle: header.idle(self.now),
            state: self.state(header, false, None),
            item_bytes: header.item_bytes() as u32,
        }
    }
}
