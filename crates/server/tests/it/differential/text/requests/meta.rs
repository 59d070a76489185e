//! Meta commands, with the flags that memcached 1.6.18 knows, in any order.

use super::Generator;

const TTLS: &[i64] = &[0, 0, 100_000, 2_592_000, 2_000_000_000, -1, 1_000_000_000];
const VIVIFY_TTLS: &[i64] = &[0, 100_000, 2_592_000];
/// Far from the times that items have left, so that the seconds which pass do not decide.
const RECACHE_TTLS: &[i64] = &[0, 30, 50_000, 200_000];

struct Key {
    name: Vec<u8>,
    is_coded: bool,
}

impl Generator {
    pub(super) fn meta_get(&mut self) {
        let key = self.meta_key();
        let mut flags = self.some_flags(&["v", "v", "k", "c", "f", "s", "t", "q", "h", "l"], 6);
        flags.extend(self.opaque());
        for (name, ttls) in [("T", TTLS), ("N", VIVIFY_TTLS), ("R", RECACHE_TTLS)] {
            if self.random.chance(1, 8) {
                flags.push(format!("{name}{}", self.random.pick(ttls)));
            }
        }
        let line = self.meta_line("mg", &key, "", flags);
        self.read.insert(key.name.clone());
        self.push_line(&key.name, &line);
        self.know_the_end(&line);
    }

    pub(super) fn meta_set(&mut self) {
        const MODES: [&str; 14] = ["S", "s", "E", "e", "A", "a", "P", "p", "R", "r", "set", "add", "X", "1"];
        let key = self.meta_key();
        let mode = self.random.chance(1, 2).then(|| *self.random.pick(&MODES));
        // Appended values grow by pieces, so that no number grows too large.
        let is_concatenation = mode.is_some_and(|mode| matches!(mode.as_bytes()[0] | 0x20, b'a' | b'p'));
        let value = if is_concatenation { self.piece(&key.name) } else { self.value(&key.name) };
        let mut flags = self.some_flags(&["k", "c", "q", "I"], 3);
        flags.extend(self.opaque());
        flags.extend(mode.map(|mode| format!("M{mode}")));
        if self.random.chance(1, 3) {
            flags.push(format!("F{}", self.flags()));
        }
        if self.random.chance(1, 4) {
            flags.push(format!("T{}", self.random.pick(TTLS)));
        }
        if is_concatenation && self.random.chance(1, 3) {
            flags.push(format!("N{}", self.random.pick(VIVIFY_TTLS)));
        }
        let mut line = self.meta_line("ms", &key, &format!(" {}", value.len()), flags);
        let cas_at = self.cas_flag(&mut line, 3);
        self.push(&key.name, &[&line[..], b"\r\n", &value, b"\r\n"].concat());
        self.put_cas(cas_at, &key.name);
        self.know_the_end(&line);
    }

    pub(super) fn meta_delete(&mut self) {
        let key = self.meta_key();
        let mut flags = self.some_flags(&["k", "q", "I"], 3);
        flags.extend(self.opaque());
        if self.random.chance(1, 4) {
            flags.push(format!("T{}", self.random.pick(TTLS)));
        }
        let mut line = self.meta_line("md", &key, "", flags);
        let cas_at = self.cas_flag(&mut line, 3);
        self.push(&key.name, &[&line[..], b"\r\n"].concat());
        self.put_cas(cas_at, &key.name);
        self.know_the_end(&line);
    }

    pub(super) fn meta_count(&mut self) {
        const MODES: [&str; 10] = ["I", "i", "+", "incr", "D", "d", "-", "decr", "X", "0"];
        let key = self.meta_key();
        let mut flags = self.some_flags(&["v", "v", "k", "c", "t", "q"], 4);
        flags.extend(self.opaque());
        let mode = self.random.chance(1, 2).then(|| *self.random.pick(&MODES));
        flags.extend(mode.map(|mode| format!("M{mode}")));
        if self.random.chance(1, 2) {
            let is_downwards = matches!(mode, Some("D" | "d" | "-" | "decr"));
            flags.push(format!("D{}", self.delta(is_downwards)));
        }
        if self.random.chance(1, 3) {
            flags.push(format!("N{}", self.random.pick(VIVIFY_TTLS)));
        }
        if self.random.chance(1, 3) {
            flags.push(format!("J{}", self.random.pick(&[0_u64, 1, 9, 10, 4_294_967_296])));
        }
        if self.random.chance(1, 8) {
            flags.push(format!("T{}", self.random.pick(TTLS)));
        }
        let mut line = self.meta_line("ma", &key, "", flags);
        let cas_at = self.cas_flag(&mut line, 5);
        self.push(&key.name, &[&line[..], b"\r\n"].concat());
        self.put_cas(cas_at, &key.name);
        self.know_the_end(&line);
        self.settle_meta(&key);
    }

    pub(super) fn meta_other(&mut self) {
        let line = *self.random.pick(&["mn", "me nobody"]);
        self.push_line(b"", line.as_bytes());
    }

    fn meta_key(&mut self) -> Key {
        if self.random.chance(1, 10) {
            let name = self.random.pick(&self.coded_keys).clone();
            return Key { name, is_coded: true };
        }
        let name = if self.random.chance(1, 3) { self.counter_key() } else { self.key() };
        Key { name, is_coded: false }
    }

    fn settle_meta(&mut self, key: &Key) {
        if !key.is_coded {
            self.settle(&key.name);
        } else if self.read.remove(&key.name) {
            self.push(&key.name, &[b"ms ", &key.name[..], b" 2 b q\r\n10\r\n"].concat());
        }
    }

    /// Up to `count_max` of the flags, now and then one twice.
    fn some_flags(&mut self, flags: &[&str], count_max: usize) -> Vec<String> {
        let mut some: Vec<String> = Vec::new();
        for _ in 0..self.random.below(count_max + 1) {
            let flag = *self.random.pick(flags);
            if !some.iter().any(|other| other == flag) || self.random.chance(1, 50) {
                some.push(flag.into());
            }
        }
        some
    }

    fn opaque(&mut self) -> Option<String> {
        self.random.chance(1, 4).then(|| format!("O{}", self.random.below(100_000)))
    }

    fn meta_line(&mut self, verb: &str, key: &Key, len: &str, mut flags: Vec<String>) -> Vec<u8> {
        if key.is_coded {
            flags.push("b".into());
        }
        let mut line = [verb.as_bytes(), b" ", &key.name, len.as_bytes()].concat();
        while !flags.is_empty() {
            let flag = flags.swap_remove(self.random.below(flags.len()));
            line.push(b' ');
            line.extend(flag.into_bytes());
        }
        line
    }

    /// Adds a `C` once in so many times, whose number goes where the line ends.
    fn cas_flag(&mut self, line: &mut Vec<u8>, once_in: usize) -> Option<usize> {
        self.random.chance(1, once_in).then(|| {
            line.extend(b" C");
            line.len()
        })
    }

    fn put_cas(&mut self, at: Option<usize>, key: &[u8]) {
        if let Some(at) = at {
            let cas = self.cas(key);
            self.with_cas(at, cas);
        }
    }

    /// A quiet command is mostly followed by one that is not, as clients do it.
    fn know_the_end(&mut self, line: &[u8]) {
        if line.windows(2).any(|flag| flag == b" q") && self.random.chance(1, 2) {
            self.push_line(b"", b"mn");
        }
    }
}
