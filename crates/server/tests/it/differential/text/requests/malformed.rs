//! Lines that are broken: wrong numbers, keys that are too long, words too few and too many, data that is not as long as
//! was said.

use super::Generator;

/// What is no number where one is asked for.
const WRONG_NUMBERS: [&str; 12] = [
    "",
    "abc",
    "-1",
    "-",
    "+",
    "3x",
    "1e3",
    "1.5",
    "0x10",
    "--1",
    "99999999999999999999",
    "18446744073709551616",
];

/// What is no length besides: memcached refuses these before it waits for the data.
const WRONG_LENGTHS: [&str; 3] = ["2147483647", "-2147483648", "-2"];

impl Generator {
    pub(super) fn malformed(&mut self) {
        match self.random.below(10) {
            0 => self.incomplete(),
            1 | 2 => self.too_long_key(),
            3 | 4 => self.wrong_data(),
            5 | 6 => self.wrong_store(),
            7 => self.wrong_meta(),
            8 => self.spaced(),
            _ => self.wrong_number(),
        }
    }

    /// Unknown commands, and known ones with words too few.
    fn incomplete(&mut self) {
        const LINES: [&str; 30] = [
            "",
            " ",
            "   ",
            "GET n",
            "Set n 0 0 1",
            "foo",
            "foo bar",
            "get",
            "gets",
            "gat",
            "gat 0",
            "gats 0",
            "touch",
            "touch n",
            "incr",
            "incr n",
            "decr n",
            "delete",
            "set",
            "set n",
            "set n 0",
            "set n 0 0",
            "cas n 0 0 1",
            "add n 0 0",
            "mg",
            "ms",
            "ms n",
            "md",
            "ma",
            "mx n",
        ];
        let line = *self.random.pick(&LINES);
        self.push_line(b"", line.as_bytes());
    }

    fn too_long_key(&mut self) {
        const FORMS: [(&str, &str); 17] = [
            ("get ", ""),
            ("get n ", ""),
            ("get n ", " n"),
            ("gets ", ""),
            ("gat 0 ", ""),
            ("gats 0 n ", " n"),
            ("touch ", " 0"),
            ("incr ", " 1"),
            ("decr ", " 1"),
            ("delete ", ""),
            ("delete ", " noreply"),
            ("mg ", " v"),
            ("md ", " q"),
            ("ma ", " N0"),
            ("set ", " 0 0 4\r\ndata"),
            ("append ", " 0 0 4 noreply\r\ndata"),
            ("ms ", " 4 q\r\ndata"),
        ];
        let (before, behind) = *self.random.pick(&FORMS);
        // With these, memcached throws away what it has not sent of the answers before.
        if before.starts_with('g') && !self.requests.is_empty() {
            return;
        }
        let key = "k".repeat(251 + self.random.below(60));
        self.read.insert(b"n".to_vec());
        self.push_line(b"", format!("{before}{key}{behind}").as_bytes());
    }

    /// Data that is longer or shorter than was said. What it eats of the lines behind it is a harmless command.
    fn wrong_data(&mut self) {
        const HEADS: [&str; 8] = [
            "set n 0 0 10",
            "set n 0 0 10 noreply",
            "add 0 5 0 10",
            "append n 0 0 10",
            "cas n 0 0 10 1",
            "cas n 0 0 10 1 noreply",
            "ms n 10",
            "ms n 10 q k O1",
        ];
        const DATA: &str = "0123456789abcdefghijklmnop\r\nget n\r\n";
        let (head, data) = (*self.random.pick(&HEADS), &DATA[..self.random.below(DATA.len())]);
        self.push(b"n", format!("{head}\r\n{data}\r\n").as_bytes());
        for _ in 0..3 {
            self.push(b"n", b"get n\r\n");
        }
        self.read.insert(b"n".to_vec());
    }

    /// A store that is refused before its data is looked at, so that this is the next command.
    fn wrong_store(&mut self) {
        let verb = *self.random.pick(&["set", "add", "replace", "append", "prepend", "cas"]);
        let mut words = vec!["n", "7", "0", "4"];
        if verb == "cas" {
            words.push("1");
        }
        let at = 1 + self.random.below(words.len() - 1);
        words[at] = if at == 3 && self.random.chance(1, 3) {
            *self.random.pick(&WRONG_LENGTHS)
        } else {
            *self.random.pick(&WRONG_NUMBERS)
        };
        let noreply = self.noreply();
        self.push(b"n", format!("{verb} {}{noreply}\r\ndata\r\n", words.join(" ")).as_bytes());
        self.push(b"n", b"get n\r\n");
        self.push(b"n", b"get n\r\n");
        self.read.insert(b"n".to_vec());
    }

    fn wrong_number(&mut self) {
        const FORMS: [&str; 8] =
            ["incr n ", "decr n ", "touch n ", "gat ", "flush_all ", "delete n ", "incr nn ", "verbosity "];
        let (form, wrong) = (*self.random.pick(&FORMS), *self.random.pick(&WRONG_NUMBERS));
        let behind = if form == "gat " { " n nn" } else { self.noreply() };
        self.push_line(b"n", format!("{form}{wrong}{behind}").as_bytes());
        self.overwrite(b"n");
        self.overwrite(b"nn");
    }

    fn wrong_meta(&mut self) {
        const LINES: [&str; 30] = [
            "mg n Tx",
            "mg n T",
            "mg n Nx",
            "mg n Rx",
            "mg n v v",
            "mg n k k",
            "mg n O1 O2",
            "mg n ?",
            "mg n X",
            "mg n !",
            "mg n O",
            "mg n v O1234567890123456789012345678901",
            "mg n v O12345678901234567890123456789012",
            "mg n v O123456789012345678901234567890123",
            "mg n!! b v",
            "mg aGVsbG8 b v",
            "mg aGVs= b v",
            "mg = b",
            "md n Cx",
            "md n C",
            "md n Tx I",
            "md n v",
            "md n q q",
            "ma n Dx",
            "ma n Jx N0",
            "ma n Nx",
            "ma n M",
            "ma n Mfoo",
            "ma n C1 C2",
            "mn n v",
        ];
        const STORES: [&str; 14] = [
            "ms n S4",
            "ms n x",
            "ms n -1",
            "ms n 4x",
            "ms n 4 Fx",
            "ms n 4 Tx",
            "ms n 4 Cx",
            "ms n 4 M",
            "ms n 4 Mx",
            "ms n 4 v v",
            "ms n 4 ?",
            "ms n 4 q q",
            "ms n! 4 b",
            "ms n 4 O123456789012345678901234567890123 q",
        ];
        if self.random.chance(1, 2) {
            let line = *self.random.pick(&LINES);
            self.push_line(b"n", line.as_bytes());
        } else {
            let line = *self.random.pick(&STORES);
            self.push(b"n", format!("{line}\r\ndata\r\n").as_bytes());
            self.push(b"n", b"get n\r\n");
        }
        self.overwrite(b"n");
    }

    /// White space where it is allowed, and where it is not.
    fn spaced(&mut self) {
        const LINES: [&str; 12] = [
            " get n",
            "get  n",
            "get n ",
            "get n  nn  ",
            "get\tn",
            "get n\tnn",
            "  set n 0 0 4 \r\ndata",
            "set  n  7  0  4\r\ndata",
            "mg  n  v",
            " mg n v ",
            "ms n  4 \r\ndata",
            "delete n ",
        ];
        let line = *self.random.pick(&LINES);
        self.read.extend([b"n".to_vec(), b"nn".to_vec()]);
        self.push_line(b"n", line.as_bytes());
    }

    /// A good request without its end: what follows is taken for it, or the connection ends.
    pub(super) fn cut_short(&mut self) {
        const REQUESTS: [&str; 5] = [
            "set n 0 0 10\r\n0123456789\r\n",
            "get n nn\r\n",
            "ms n 4 q k\r\ndata\r\n",
            "cas n 0 0 4 1\r\ndata\r\n",
            "mn\r\n",
        ];
        let request = *self.random.pick(&REQUESTS);
        let len = self.random.below(request.len());
        self.push(b"n", &request.as_bytes()[..len]);
    }

    /// A good line with a word too few, too many, twice or exchanged. It may well ask for more data than there is.
    pub(super) fn mutation(&mut self) {
        const LINES: [&str; 14] = [
            "get n nn 0",
            "gats 0 n nn",
            "touch n 0 noreply",
            "set n 7 100 4 noreply",
            "cas n 7 100 4 9 noreply",
            "append n 7 100 4",
            "incr n 5 noreply",
            "delete n 0 noreply",
            "flush_all 0 noreply",
            "verbosity 0 noreply",
            "mg n v k c T100 O1",
            "ms n 4 T100 F7 k O1",
            "ma n N0 J5 D2 v k",
            "md n q k I T100",
        ];
        let line = *self.random.pick(&LINES);
        let mut words: Vec<&str> = line.split(' ').collect();
        for _ in 0..=self.random.below(2) {
            let at = self.random.below(words.len());
            match self.random.below(4) {
                0 if words.len() > 1 => drop(words.remove(at)),
                1 => words.insert(at, words[at]),
                2 => {
                    let other = self.random.below(words.len());
                    words.swap(at, other);
                }
                _ => words[at] = *self.random.pick(&WRONG_NUMBERS),
            }
        }
        self.push(b"n", format!("{}\r\ndata\r\n", words.join(" ")).as_bytes());
    }
}
