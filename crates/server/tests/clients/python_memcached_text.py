"""python-memcached: what each call says, line by line, so that two servers can be compared: python_memcached_text.py HOST:PORT"""

import sys
import time

import memcache

VALUES = {
    "text": "grüße",
    "bytes": bytes(range(256)),
    "empty": "",
    "int": -12,
    "large int": 10**30,
    "bool": True,
    "float": 2.5,
    "list": [None, 1, {"two": [2.5]}],
    "large": "x" * 500_000,
    "number": "41",
}


def tell(what, call, *args, **options):
    try:
        got = repr(call(*args, **options))
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
    print(f"{what}: {got[:200]} ({len(got)})")


def main(address):
    mc = memcache.Client([address], cache_cas=True, socket_timeout=10)
    tell("flush", mc.flush_all)
    tell("get of nothing", mc.get, "missing")
    tell("get of nothing, with a default", mc.get, "missing", 7)
    for name, value in VALUES.items():
        key = name.replace(" ", "_")
        tell(f"set {name}", mc.set, key, value)
        tell(f"get {name}", mc.get, key)
    tell("set of bytes as a key", mc.set, b"raw", "v")
    tell("get of bytes as a key", mc.get, b"raw")

    # delete answers 1 for what was there and for what was not, incr and decr None for what was not.
    tell("delete", mc.delete, "text")
    tell("delete of nothing", mc.delete, "text")
    tell("delete, telling", mc.delete, "bytes", noreply=False)
    tell("delete, not telling", mc.delete, "int", noreply=True)
    tell("get of the deleted", mc.get, "int")
    for name, value in [("digits", "10"), ("an int", 10), ("text", "ten"), ("nothing", ""), ("a float", 1.5)]:
        tell(f"set {name}", mc.set, "counter", value)
        tell(f"incr of {name}", mc.incr, "counter")
        tell(f"incr of {name} by 5", mc.incr, "counter", 5)
        tell(f"decr of {name}", mc.decr, "counter")
        tell(f"decr of {name} by 100", mc.decr, "counter", 100)
        tell(f"incr of {name} by text", mc.incr, "counter", "2")
        tell(f"incr of {name} downwards", mc.incr, "counter", -2)
        tell(f"{name} at last", mc.get, "counter")
    tell("incr of nothing", mc.incr, "missing")
    tell("decr of nothing", mc.decr, "missing", 3)
    tell("incr, not telling", mc.incr, "counter", noreply=True)

    tell("add", mc.add, "new", 1)
    tell("add again", mc.add, "new", 2)
    tell("replace", mc.replace, "new", "3")
    tell("replace of nothing", mc.replace, "missing", 3)
    tell("append", mc.append, "new", "-behind")
    tell("prepend", mc.prepend, "new", "before-")
    tell("append to nothing", mc.append, "missing", "x")
    tell("get of all that", mc.get, "new")
    tell("touch", mc.touch, "new", 100)
    tell("touch of nothing", mc.touch, "missing", 100)

    tell("set_multi", mc.set_multi, {"a": 1, "b": "two", "c": [3]}, key_prefix="pre")
    tell("get_multi", lambda: sorted(mc.get_multi(["a", "b", "missing", "c"], key_prefix="pre").items()))
    tell("delete_multi", mc.delete_multi, ["a", "missing"], key_prefix="pre")
    tell("get_multi", lambda: sorted(mc.get_multi(["a", "b", "c"], key_prefix="pre").items()))

    tell("set for cas", mc.set, "cas", "1")
    tell("gets", mc.gets, "cas")
    tell("cas", mc.cas, "cas", "2")
    tell("cas with the same", mc.cas, "cas", "3")
    tell("get after that", mc.get, "cas")

    tell("set that has ended", mc.set, "ended", "x", time=-1)
    tell("get of it", mc.get, "ended")
    tell("set that stays", mc.set, "stays", "x", time=100)
    tell("get of it", mc.get, "stays")
    tell("set that is too large", mc.set, "large", "x" * 1_100_000)
    tell("get of it", mc.get, "large")
    tell("a key that is too long", mc.set, "k" * 251, "x")
    tell("a key of 250", mc.set, "k" * 250, "x")
    tell("a key with a space", mc.get, "a b")
    tell("version", lambda: mc.get_stats()[0][1]["version"] is not None)
    tell("statistics", lambda: sorted({"pid", "curr_items", "cmd_get", "get_hits", "bytes"} & mc.get_stats()[0][1].keys()))
    tell("flush", mc.flush_all)
    tell("get after it", mc.get, "new")
    tell("set that ends soon", mc.set, "soon", "x", time=1)
    deadline = time.monotonic() + 10
    while mc.get("soon") is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    tell("get of what has ended meanwhile", mc.get, "soon")


main(sys.argv[1])
