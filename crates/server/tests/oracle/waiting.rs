//! `mg` with `U` waits for another version of an item than `C`, and answers as `mg` does.

use memwire::config::{Config, Watch};
use memwire::limits::WATCHERS_PER_KEY_MAX;

use crate::text::{Client, Room};

/// Longer than any test takes.
const LONG: &str = "U600000";

/// A server that lets clients wait, and whoever writes.
struct House {
    room: Room,
    writer: Client,
}

impl House {
    fn new() -> Self {
        let room =
            Room::new(Config { memory_bytes_max: 9 << 20, watch: Watch::Allowed, ..Config::default() });
        Self { writer: room.connect(), room }
    }

    /// A client that has asked this, and waits.
    #[track_caller]
    fn waiter(&mut self, request: &str) -> Client {
        let mut waiter = self.room.connect();
        assert_eq!(self.ask(&mut waiter, request), "");
        assert!(waiter.connection.waits_until().is_some());
        waiter
    }

    fn ask(&mut self, client: &mut Client, request: &str) -> String {
        let request = request.replace('\n', "\r\n");
        self.room.ask(client, request).replace("\r\n", "\n")
    }

    /// The writer's answer. Who has waited for what it changes is told.
    fn write(&mut self, request: &str) -> String {
        self.room.ask(&mut self.writer, request.replace('\n', "\r\n")).replace("\r\n", "\n")
    }

    /// What a client reads when somebody has been told of a change, which may be of another key.
    fn woken(&mut self, client: &mut Client) -> String {
        let woken = self.room.engine.take_woken(usize::MAX).count();
        assert_eq!(woken, 1);
        client.connection.wake();
        self.ask(client, "")
    }

    /// What a client reads whose time is up.
    fn over(&mut self, client: &mut Client) -> String {
        client.connection.end_wait();
        self.ask(client, "")
    }
}

#[test]
fn it_is_no_flag_unless_it_is_allowed_and_of_no_other_command() {
    let mut room = Room::new(Config::default());
    let mut client = room.connect();
    assert_eq!(room.ask(&mut client, "mg a v U1\r\nmn\r\n"), "CLIENT_ERROR invalid flag\r\nMN\r\n");
    let mut house = House::new();
    let told = house.write("ms a 1 U1\nx\nmd a U1\nma a U1\nmg a U\nmg a Ux\nmg a U-1\nmg a U1 U1\nmn\n");
    let merged = "CLIENT_ERROR invalid or duplicate flag\n";
    let bad = "CLIENT_ERROR bad token in command line format\n";
    assert_eq!(
        told,
        format!(
            "CLIENT_ERROR invalid flag\n{merged}{merged}{bad}{bad}{bad}CLIENT_ERROR duplicate flag\nMN\n"
        )
    );
}

#[test]
fn another_version_is_told_at_once_with_all_that_is_asked_for() {
    let mut house = House::new();
    house.write("ms a 2 F7 T100\nhi\n");
    for known in ["", "C0", "C2", "C18446744073709551615"] {
        let asked = format!("mg a v k f s c t O9 {known} {LONG}\nmn\n");
        assert_eq!(house.write(&asked), "VA 2 ka f7 s2 c1 t100 O9\nhi\nMN\n");
    }
    assert_eq!(house.write(&format!("mg a c {LONG}\nmn\n")), "HD c1\nMN\n");
    assert_eq!(
        house.write(&format!("mg missing v C1 k {LONG}\nmg missing v C1 q {LONG}\nmn\n")),
        "EN kmissing\nMN\n"
    );
}

#[test]
fn a_change_is_told_when_it_comes_and_what_is_asked_behind_it_comes_behind() {
    let mut house = House::new();
    let mut waiter = house.waiter(&format!("mg a v c k {LONG} O1\nmg a c\nmn\n"));
    assert_eq!(house.ask(&mut waiter, "mg b v\n"), "", "it waits");
    house.write("ms a 2\nhi\n");
    assert_eq!(house.woken(&mut waiter), "VA 2 c1 ka O1\nhi\nHD c1\nMN\nEN\n");
    for (change, told) in [
        ("ms a 5\nhello\n", "VA 5 c2 t-1\nhello\n"),
        ("ms a 1 MA\n!\n", "VA 6 c3 t-1\nhello!\n"),
        ("md a I T30\n", "VA 6 c4 t30 X W\nhello!\n"),
        ("md a\n", "EN\n"),
    ] {
        let known = told.split_once(" c").map_or(4, |(_, rest)| rest[..1].parse::<u64>().unwrap() - 1);
        let mut waiter = house.waiter(&format!("mg a v c t C{known} {LONG}\n"));
        house.write(change);
        assert_eq!(house.woken(&mut waiter), told, "{change}");
    }
}

#[test]
fn a_key_in_base64_is_waited_for_and_told_as_it_was_sent() {
    let mut house = House::new();
    let mut waiter = house.waiter(&format!("mg AAE= b k v {LONG}\n"));
    house.write("ms AAE= 2 b\nhi\n");
    assert_eq!(house.woken(&mut waiter), "VA 2 kAAE= b\nhi\n");
}

#[test]
fn the_end_of_the_time_is_the_answer_that_nothing_has_changed() {
    let mut house = House::new();
    house.write("ms a 2\nhi\n");
    for (request, told) in [
        ("mg a v c s f O1 C1", "HD c1 s2 f0 O1\n"),
        ("mg a c C1 q", "HD c1\n"),
        ("mg missing v O1", "EN O1\n"),
        ("mg missing v q", ""),
        ("mg made v c N30", "VA 0 c2 W\n\n"),
    ] {
        let mut waiter = house.waiter(&format!("{request} {LONG}\nmn\n"));
        assert_eq!(house.over(&mut waiter), format!("{told}MN\n"), "{request}");
        let at_once = house.write(&format!("{request} U0\nmn\n"));
        if !request.contains('N') {
            assert_eq!(at_once, format!("{told}MN\n"), "who does not wait is answered the same");
        }
    }
    house.write("ms a 2\nho\n");
    assert_eq!(house.room.engine.take_woken(usize::MAX).count(), 0, "nobody is noted any more");
}

#[test]
fn too_many_are_told_so_and_the_connection_goes_on() {
    let mut house = House::new();
    let _waiters: Vec<_> =
        (0..WATCHERS_PER_KEY_MAX).map(|_| house.waiter(&format!("mg a v {LONG}\n"))).collect();
    let mut refused = house.room.connect();
    let told = house.ask(&mut refused, &format!("mg a v q {LONG}\nmn\n"));
    assert_eq!(told, "SERVER_ERROR too many wait\nMN\n");
}
