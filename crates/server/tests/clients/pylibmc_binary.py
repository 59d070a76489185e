"""pylibmc (libmemcached) over the binary protocol: pylibmc_binary.py HOST:PORT"""

import sys
import time

import pylibmc

checks = 0


def check(what, got, expected):
    global checks
    checks += 1
    if got != expected:
        sys.exit(f"pylibmc: {what}: got {got!r:.200}, expected {expected!r:.200}")


def check_raises(what, error, call, *args):
    try:
        got = call(*args)
    except error:
        got = error
    check(what, got, error)


def gone_in_time(get):
    """An expiration of 1 s is over within 2 s of a one-second clock; 5 s allow for a busy machine."""
    deadline = time.monotonic() + 5
    while get() is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def client(address, **behaviors):
    return pylibmc.Client([address], binary=True, behaviors={"tcp_nodelay": True, "cas": True, **behaviors})


def main(address):
    mc = client(address)
    check("flush_all", mc.flush_all(), True)

    check("get of a missing key", mc.get("missing"), None)
    check("get with a default", mc.get("missing", 7), 7)
    check("set", mc.set("text", "grüße"), True)
    check("get", mc.get("text"), "grüße")
    check("key in client", "text" in mc, True)
    check("missing key in client", "missing" in mc, False)

    # pylibmc marks the type in the flags, so each of these comes back right only if they are kept.
    values = {
        "bytes": bytes(range(256)),
        "empty": b"",
        "empty text": "",
        "int": -12,
        "long": 1 << 80,
        "float": 1.5,
        "bool": True,
        "pickle": {"list": [1, (2, None)]},
        "large": bytes(range(256)) * 2000,
    }
    values = {key.replace(" ", "_"): value for key, value in values.items()}
    for key, value in values.items():
        check(f"set {key}", mc.set(key, value), True)
        check(f"get {key}", mc.get(key), value)
    check("get_multi", mc.get_multi([*values, "missing"]), values)
    check("get_multi with a prefix", mc.get_multi(["ty", "ol"], key_prefix="emp"), {"ty": b""})
    check("longest key", (mc.set("k" * 250, b"v"), mc.get("k" * 250)), (True, b"v"))

    many = {f"many{i}": f"value {i}" * (i % 7) for i in range(500)}
    check("set_multi", mc.set_multi(many), [])
    check("get_multi of 500", mc.get_multi(list(many)), many)
    check("add_multi on existing keys fails for each", sorted(mc.add_multi({"many1": 1, "many2": 2})), ["many1", "many2"])
    check("delete_multi", mc.delete_multi(list(many)), True)
    check("get_multi after delete_multi", mc.get_multi(list(many)), {})
    check("delete_multi of missing keys", mc.delete_multi(["many1"]), False)

    check("compressed set", mc.set("compressed", b"a" * 100_000, min_compress_len=100), True)
    check("compressed get", mc.get("compressed"), b"a" * 100_000)

    check("add", mc.add("added", b"1"), True)
    check("add on an existing key", mc.add("added", b"2"), False)
    check("add left the value", mc.get("added"), b"1")
    check("replace", mc.replace("added", b"3"), True)
    check_raises("replace on a missing key", pylibmc.NotFound, mc.replace, "missing", b"3")
    check("append", mc.append("added", b"\0tail"), True)
    check("prepend", mc.prepend("added", b"head\xff"), True)
    check("value after append and prepend", mc.get("added"), b"head\xff3\0tail")
    check("append to a missing key", mc.append("missing", b"x"), False)
    check("prepend to a missing key", mc.prepend("missing", b"x"), False)
    check("delete", mc.delete("added"), True)
    check("delete of a missing key", mc.delete("added"), False)

    check("gets of a missing key", mc.gets("cas")[0], None)
    mc.set("cas", b"one")
    value, cas = mc.gets("cas")
    check("gets", value, b"one")
    check("cas", mc.cas("cas", b"two", cas), True)
    check("cas with an old number", mc.cas("cas", b"three", cas), False)
    check("value after cas", mc.get("cas"), b"two")
    check_raises("cas on a missing key", pylibmc.NotFound, mc.cas, "missing", b"x", 1)

    mc.set("counter", 9)
    check("incr", mc.incr("counter"), 10)
    check("incr by 90", mc.incr("counter", 90), 100)
    check("decr", mc.decr("counter"), 99)
    check("get of a counter", mc.get("counter"), 99)
    check("decr stops at 0", mc.decr("counter", 1000), 0)
    mc.set_multi({"counter1": 1, "counter2": 2})
    check("incr_multi", (mc.incr_multi(["counter1", "counter2"], delta=5), mc.get_multi(["counter1", "counter2"])),
          (None, {"counter1": 6, "counter2": 7}))
    check_raises("incr of a missing key", pylibmc.NotFound, mc.incr, "missing")
    check_raises("decr of a missing key", pylibmc.NotFound, mc.decr, "missing")
    mc.set("word", "word")
    # libmemcached gives the whole server up after a status that it does not know, so this takes a client of its own.
    check_raises("incr of a word", pylibmc.Error, client(address).incr, "word")

    # The libmemcached in the wheel of pylibmc reads on behind the answer to a touch until its poll timeout is over.
    impatient = client(address, _poll_timeout=100)
    check("touch", impatient.touch("word", 1000), True)
    check("touch of a missing key", impatient.touch("missing", 1000), False)
    check("set that expires", mc.set("short", b"v", time=1), True)
    check("expiry", gone_in_time(lambda: mc.get("short")), True)
    check("a touched item outlives the short one", mc.get("word"), "word")
    check("set in the past", (mc.set("past", b"v", time=1_000_000_000), mc.get("past")), (True, None))

    [(name, stats)] = mc.get_stats()
    check("get_stats names the server", name.startswith(address.split(":")[0].encode()), True)
    names = {name if isinstance(name, bytes) else name.encode() for name in stats}
    expected = {b"pid", b"uptime", b"version", b"curr_items", b"get_hits", b"cmd_get"}
    check("get_stats has what monitors read", expected - names, set())

    hashed = client(address, ketama=True, no_block=True)
    check("set_multi without blocking", hashed.set_multi({f"async{i}": i for i in range(100)}), [])
    check("get_multi after it", hashed.get_multi([f"async{i}" for i in range(100)]), {f"async{i}": i for i in range(100)})

    check("too large a value", too_large(mc), True)
    check("the connection lives on", mc.get("cas"), b"two")
    check("flush_all", mc.flush_all(), True)
    check("get after flush_all", mc.get_multi(["cas", "word", "counter", "large"]), {})
    mc.disconnect_all()
    print(f"ok: {checks} checks")


def too_large(mc):
    try:
        return not mc.set("huge", b"x" * 1_100_000)
    except pylibmc.Error:
        return True


main(sys.argv[1])
