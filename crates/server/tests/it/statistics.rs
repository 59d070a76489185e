//! STAT: the groups, their names, and that they tell what happened.

use crate::client::{Answer, Client, FAIL_ON_MISS, Request, number, op, status};
use crate::harness::Server;

/// What exporters and health checks read.
const GENERAL_STATS: &str = "pid uptime time version pointer_size rusage_user rusage_system max_connections \
    curr_connections total_connections rejected_connections cmd_get cmd_set cmd_flush cmd_touch cmd_meta get_hits \
    get_misses get_expired get_flushed delete_misses delete_hits incr_misses incr_hits decr_misses decr_hits \
    cas_misses cas_hits cas_badval touch_hits touch_misses store_too_large store_no_memory auth_cmds auth_errors \
    idle_kicks bytes_read bytes_written limit_maxbytes accepting_conns threads conn_yields hash_power_level \
    hash_bytes bytes curr_items total_items evictions reclaimed";

#[test]
fn the_general_statistics_have_all_names_and_count_what_happens() {
    let server = Server::start(&["-m", "100", "-c", "500", "-t", "3"]);
    let mut client = Client::connect(&server);
    let cas = client.set("k", "1");
    client.set("k", "1");
    for request in [
        Request::of(op::GET, "k"),
        Request::of(op::GETKQ, "k"),
        Request::of(op::GET, "missing"),
        Request::store(op::SET, "k", "1").cas(cas),
        Request::store(op::SET, "missing", "1").cas(1),
        Request::count(op::INCR, "k", 1, 0, 0),
        Request::count(op::INCR, "missing", 1, 0, FAIL_ON_MISS),
        Request::count(op::DECR, "k", 1, 0, 0),
        Request::count(op::DECR, "missing", 1, 0, FAIL_ON_MISS),
        Request::touch(op::TOUCH, "k", 0),
        Request::touch(op::TOUCH, "missing", 0),
        Request::of(op::DELETE, "missing"),
        Request::store(op::ADD, "other", "1"),
        Request::of(op::DELETE, "other"),
        Request::store(op::SET, "large", vec![0; 2 << 20]),
    ] {
        client.ask(&request);
    }
    let cas = client.ask(&Request::of(op::GET, "k")).cas;
    client.ask(&Request::store(op::SET, "k", "12").cas(cas));
    client.set("gone", "1");
    client.ask(&Request::new(op::FLUSH));
    client.get("gone");
    client.set("k", "12");

    let stats = client.stats("");
    for name in GENERAL_STATS.split_whitespace() {
        assert!(stats.contains_key(name), "no {name} in {stats:?}");
    }
    for (name, value) in [
        ("pid", u64::try_from(server.pid().as_raw()).unwrap()),
        ("pointer_size", 64),
        ("max_connections", 500),
        ("curr_connections", 1),
        ("total_connections", 1),
        ("rejected_connections", 0),
        ("get_hits", 3),
        ("get_misses", 2),
        ("cmd_get", 5),
        ("cmd_flush", 1),
        ("cmd_touch", 2),
        ("touch_hits", 1),
        ("touch_misses", 1),
        ("delete_hits", 1),
        ("delete_misses", 1),
        ("incr_hits", 1),
        ("incr_misses", 1),
        ("decr_hits", 1),
        ("decr_misses", 1),
        ("cas_hits", 1),
        ("cas_misses", 1),
        ("cas_badval", 1),
        ("store_too_large", 1),
        ("store_no_memory", 0),
        ("get_no_memory", 0),
        ("large_bytes", 0),
        ("receiving_bytes", 0),
        ("waiting_bytes", 0),
        ("pinned_bytes", 0),
        ("orphaned_bytes", 0),
        ("crowding", 0),
        ("limit_maxbytes", 100 << 20),
        ("accepting_conns", 1),
        ("threads", 3),
        ("curr_items", 1),
        ("evictions", 0),
    ] {
        assert_eq!(number(&stats, name), value, "{name}");
    }
    assert!(number(&stats, "bytes") > 2 && number(&stats, "bytes") < 200);
    assert!(number(&stats, "buffer_bytes") > 1024, "a connection at least");
    assert!(number(&stats, "bytes_read") > 2 << 20);
    assert!(number(&stats, "bytes_written") > 24 * 20);
    let text_of = |name: &str| &stats[name];
    assert!(text_of("rusage_user").parse::<f64>().is_ok());
    assert!(text_of("rusage_system").parse::<f64>().is_ok());
}

#[test]
fn the_settings_are_those_that_were_given() {
    let server = Server::start(&["-m", "100", "-c", "77", "-t", "2", "-I", "3m", "-b", "33", "-R", "50"]);
    let mut client = Client::connect(&server);
    let settings = client.stats("settings");
    for (name, value) in [
        ("maxbytes", "104857600"),
        ("maxconns", "77"),
        ("num_threads", "2"),
        ("item_size_max", "3145728"),
        ("tcp_backlog", "33"),
        ("reqs_per_event", "50"),
        ("evictions", "on"),
        ("cas_enabled", "yes"),
        ("flush_enabled", "yes"),
        ("detail_enabled", "no"),
        ("domain_socket", "NULL"),
        ("inter", "127.0.0.1"),
        ("udpport", "0"),
        ("verbosity", "0"),
        ("auth_enabled_sasl", "no"),
        ("ssl_enabled", "no"),
    ] {
        assert_eq!(settings.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(number(&settings, "tcpport"), u64::from(server.port()), "the one that the system chose");
    for name in ["oldest", "umask", "stat_key_prefix", "idle_timeout"] {
        assert!(settings.contains_key(name), "no {name}");
    }
}

#[test]
fn the_groups_of_statistics_end_in_a_terminator_and_others_are_not_found() {
    let server = Server::start(&["-o", "track_sizes"]);
    let mut client = Client::connect(&server);
    client.set("k", [0; 100]);
    client.set("large", vec![0; 100 << 10]);
    let items = client.stats("items");
    assert_eq!((&items["items:1:number"][..], &items["items:1:evicted"][..]), ("2", "0"));
    assert_eq!((&items["items:1:number_hot"][..], &items["items:1:number_warm"][..]), ("2", "0"));
    let slabs = client.stats("slabs");
    assert_eq!(slabs["active_slabs"], "1");
    assert_eq!(number(&slabs, "1:large_items"), 1);
    assert!(number(&slabs, "1:large_bytes") >= 100 << 10);
    assert!(number(&slabs, "total_malloced") >= 100 << 10);
    assert!(number(&slabs, "1:used_chunks") <= number(&slabs, "1:total_chunks"));
    let sizes = client.stats("sizes");
    assert_eq!(
        sizes
            .iter()
            .map(|(bytes, count)| (bytes.parse::<u32>().unwrap() % 32, &count[..]))
            .collect::<Vec<_>>(),
        [(0, "1"), (0, "1")]
    );
    for unknown in ["nothing", "detail", "detail ", "detail maybe", "settings ", "SETTINGS"] {
        assert_eq!(client.ask(&Request::of(op::STAT, unknown)), Answer::error(status::NOT_FOUND));
    }
    let untracked = Server::start(&[]);
    assert_eq!(Client::connect(&untracked).stats("sizes")["sizes_status"], "disabled");
}

#[test]
fn reset_clears_what_is_counted_and_leaves_what_is() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    client.set("k", "v");
    client.get("k");
    client.get("missing");
    assert_eq!(client.stats("reset").len(), 0, "the terminator only");
    let stats = client.stats("");
    for name in ["cmd_get", "cmd_set", "get_hits", "get_misses", "total_items", "total_connections"] {
        assert_eq!(number(&stats, name), 0, "{name}");
    }
    assert!(number(&stats, "bytes_read") < 200);
    for name in ["curr_items", "curr_connections"] {
        assert_eq!(number(&stats, name), 1, "{name}");
    }
    assert_eq!(client.get("k").unwrap(), b"v");
}

#[test]
fn detail_counts_by_prefix_while_it_is_on() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let dump = |client: &mut Client| {
        let dump = client.stats("detail dump");
        assert_eq!(dump.len(), 1);
        let mut lines: Vec<_> = dump["detailed"].split_inclusive("\r\n").map(str::to_owned).collect();
        assert_eq!(lines.pop().unwrap(), "END\r\n");
        lines.sort();
        lines
    };
    client.set("a:1", "v");
    assert!(dump(&mut client).is_empty(), "it is off");
    assert_eq!(client.stats("detail on").len(), 0);
    assert_eq!(client.stats("settings")["detail_enabled"], "yes");
    client.set("a:1", "v");
    client.set("a:2:3", "v");
    client.set("b:", "v");
    client.set("none", "v");
    client.get("a:1");
    client.get("a:missing");
    client.ask(&Request::of(op::DELETE, "a:1"));
    assert_eq!(
        dump(&mut client),
        ["PREFIX a get 2 hit 1 set 2 del 1\r\n", "PREFIX b get 0 hit 0 set 1 del 0\r\n"]
    );
    assert_eq!(client.stats("detail off").len(), 0);
    client.get("a:1");
    assert_eq!(dump(&mut client).len(), 2, "what was counted is still there");
    assert_eq!(client.stats("settings")["detail_enabled"], "no");

    let from_the_start = Server::start(&["-D", "/"]);
    let mut client = Client::connect(&from_the_start);
    client.set("a/1", "v");
    assert_eq!(dump(&mut client), ["PREFIX a get 0 hit 0 set 1 del 0\r\n"]);
}
