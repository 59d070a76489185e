"""python-binary-memcached, which speaks the binary protocol in Python: bmemcached_binary.py HOST:PORT"""

import os
import sys
import time

import bmemcached

checks = 0


def check(what, got, expected):
    global checks
    checks += 1
    if got != expected:
        sys.exit(f"bmemcached: {what}: got {got!r:.200}, expected {expected!r:.200}")


def gone_in_time(get):
    """An expiration of 1 s is over within 2 s of a one-second clock; 5 s allow for a busy machine."""
    deadline = time.monotonic() + 5
    while get() is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def status_of(call, *args):
    """The status that the server refused the call with."""
    try:
        return f"answered {call(*args)!r}"
    except bmemcached.exceptions.MemcachedException as error:
        return error.code


def main(address):
    mc = bmemcached.Client((address,))
    check("flush_all", mc.flush_all(), True)

    check("get of a missing key", mc.get("missing"), None)
    check("get with a default", mc.get("missing", default=7), 7)
    check("set", mc.set("text", "grüße"), True)
    check("get", mc.get("text"), "grüße")

    # The client marks the type and compression in the flags, so each of these comes back right only if they are kept.
    values = {
        "bytes": bytes(range(256)),
        "empty": b"",
        "empty_text": "",
        "int": -12,
        "long": 1 << 80,
        "bool": True,
        "pickle": {"list": [1, (2, None)]},
        "compressed": b"a" * 500_000,
        "large": os.urandom(500_000),
    }
    for key, value in values.items():
        check(f"set {key}", mc.set(key, value), True)
        check(f"get {key}", mc.get(key), value)
    check("get_multi", mc.get_multi([*values, "missing"]), values)
    check("longest key", (mc.set("k" * 250, b"v"), mc.get("k" * 250)), (True, b"v"))

    many = {f"many{i}": f"value {i}" * (i % 7) for i in range(500)}
    check("set_multi", mc.set_multi(many), [])
    check("get_multi of 500", mc.get_multi(list(many)), many)
    check("get_multi with cas", {key: value for key, (value, _) in mc.get_multi(list(many), get_cas=True).items()}, many)
    check("delete_multi", mc.delete_multi(list(many)), True)
    check("get_multi after delete_multi", mc.get_multi(list(many)), {})

    check("add", mc.add("added", "1"), True)
    check("add on an existing key", mc.add("added", "2"), False)
    check("add left the value", mc.get("added"), "1")
    check("replace", mc.replace("added", "3"), True)
    check("replace on a missing key", mc.replace("missing", "3"), False)
    check("value after replace", mc.get("added"), "3")
    check("delete", (mc.delete("added"), mc.get("added")), (True, None))
    check("delete of a missing key, which this client takes for success", mc.delete("added"), True)

    mc.set("cas", "one")
    value, cas = mc.gets("cas")
    check("gets", value, "one")
    check("gets of a missing key", mc.gets("missing"), (None, None))
    check("cas", mc.cas("cas", "two", cas), True)
    check("cas with an old number", mc.cas("cas", "three", cas), False)
    check("value after cas", mc.get("cas"), "two")
    check("cas on a missing key", mc.cas("missing", "x", cas), False)
    check("delete with an old number", (mc.delete("cas", cas=cas), mc.get("cas")), (False, "two"))
    check("delete with the number", (mc.delete("cas", cas=mc.gets("cas")[1]), mc.get("cas")), (True, None))
    stored, cas = mc.set("cas", "four", get_cas=True)
    check("the number that set answers is the item's", (stored, cas), (True, mc.gets("cas")[1]))
    numbers = mc.set_multi_cas({"cas": "five", ("cas2", cas): "not stored", "cas3": "three"})
    check("set_multi_cas", numbers, {"cas": mc.gets("cas")[1], "cas2": None, "cas3": mc.gets("cas3")[1]})

    check("incr creates with the default", mc.incr("counter", 5, default=7), 7)
    check("incr", mc.incr("counter", 93), 100)
    check("decr", mc.decr("counter", 1), 99)
    check("decr stops at 0", mc.decr("counter", 1000), 0)
    check("decr creates with the default", mc.decr("counter2", 5, default=8), 8)
    check("incr to the top", mc.incr("top", 1, default=2**64 - 1), 2**64 - 1)

    check("set that expires", mc.set("short", "v", time=1), True)
    check("expiry", gone_in_time(lambda: mc.get("short")), True)
    check("an item without expiration outlives it", mc.get("text"), "grüße")
    check("set in the past", (mc.set("past", "v", time=1_000_000_000), mc.get("past")), (True, None))

    stats = mc.stats()[address]
    check("stats", {"pid", "uptime", "version", "curr_items", "get_hits", "cmd_get"} <= set(stats), True)
    check("stats settings", "maxconns" in mc.stats("settings")[address], True)

    raw = bmemcached.Client((address,), raw_data=True)
    check("too large a value", status_of(raw.set, "huge", os.urandom(1_100_000)), 3)
    check("incr of a word", status_of(mc.incr, "text", 1), 6)
    check("the connection lives on", raw.get("text"), "grüße".encode())
    check("flush_all", mc.flush_all(), True)
    check("get after flush_all", mc.get_multi(["text", "cas", "counter", "large"]), {})
    mc.disconnect_all()
    raw.disconnect_all()
    print(f"ok: {checks} checks")


main(sys.argv[1])
