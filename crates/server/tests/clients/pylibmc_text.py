"""pylibmc (libmemcached) over the text protocol: what each call says, line by line: pylibmc_text.py HOST:PORT"""

import sys

import pylibmc


def tell(what, call, *args, **options):
    try:
        got = repr(call(*args, **options))
    except Exception as error:
        got = type(error).__name__
    print(f"{what}: {got[:200]} ({len(got)})")


def exercise(mc):
    tell("flush", mc.flush_all)
    tell("get of nothing", mc.get, "missing")
    for name, value in {"text": "grüße", "bytes": bytes(range(256)), "empty": b"", "int": -7, "list": [1], "large": b"x" * 500_000}.items():
        tell(f"set {name}", mc.set, name, value)
        tell(f"get {name}", mc.get, name)
    tell("add", mc.add, "new", "1")
    tell("add again", mc.add, "new", "2")
    tell("replace", mc.replace, "new", "3")
    tell("replace of nothing", mc.replace, "missing", "3")
    tell("append", mc.append, "new", "4")
    tell("prepend", mc.prepend, "new", "5")
    tell("append to nothing", mc.append, "missing", "5")
    tell("get", mc.get, "new")
    tell("set a counter", mc.set, "counter", 10)
    tell("incr", mc.incr, "counter", 10)
    tell("decr", mc.decr, "counter", 3)
    tell("get a counter", mc.get, "counter")
    tell("decr below 0", mc.decr, "counter", 1000)
    tell("incr of nothing", mc.incr, "missing", 1)
    tell("incr of text", mc.incr, "text", 1)
    tell("set_multi", mc.set_multi, {"a": 1, "b": "two"}, key_prefix="pre")
    tell("get_multi", lambda: sorted(mc.get_multi(["a", "missing", "b"], key_prefix="pre").items()))
    tell("incr_multi", mc.incr_multi, ["a"], key_prefix="pre", delta=4)
    tell("delete_multi", mc.delete_multi, ["a", "b"], key_prefix="pre")
    tell("set for cas", mc.set, "cas", "1")
    value, cas = mc.gets("cas")
    tell("gets", lambda: (value, cas > 0))
    tell("cas", mc.cas, "cas", "2", cas)
    tell("cas with the same", mc.cas, "cas", "3", cas)
    tell("touch", mc.touch, "cas", 100)
    tell("touch of nothing", mc.touch, "missing", 100)
    tell("delete", mc.delete, "cas")
    tell("delete of nothing", mc.delete, "cas")
    tell("a key that is too long", mc.set, "k" * 251, "x")
    tell("too large", mc.set, "large", b"x" * 1_100_000)
    tell("get of it", mc.get, "large")
    tell("statistics", lambda: sorted({"pid", "curr_items", "cmd_get"} & mc.get_stats()[0][1].keys()))


def main(address):
    for behaviors in ({}, {"no_block": True}, {"tcp_nodelay": True, "verify_keys": True}):
        exercise(pylibmc.Client([address], binary=False, behaviors={"cas": True, **behaviors}))


main(sys.argv[1])
