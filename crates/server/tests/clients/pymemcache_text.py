"""pymemcache: what each call says, line by line, so that two servers can be compared: pymemcache_text.py HOST:PORT"""

import sys

from pymemcache import serde
from pymemcache.client.base import Client, PooledClient


def tell(what, call, *args, **options):
    try:
        got = repr(call(*args, **options))
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
    print(f"{what}: {got[:200]} ({len(got)})")


def exercise(mc):
    tell("flush", mc.flush_all)
    tell("get of nothing", mc.get, "missing")
    for name, value in {"text": "grüße", "bytes": bytes(range(256)), "empty": b"", "int": 7, "list": [1], "large": b"x" * 500_000}.items():
        tell(f"set {name}", mc.set, name, value, noreply=False)
        tell(f"get {name}", mc.get, name)
        tell(f"set {name}, not telling", mc.set, name, value, noreply=True)
    tell("add", mc.add, "new", "1", noreply=False)
    tell("add again", mc.add, "new", "2", noreply=False)
    tell("replace", mc.replace, "new", "3", noreply=False)
    tell("replace of nothing", mc.replace, "missing", "3", noreply=False)
    tell("append", mc.append, "new", "4", noreply=False)
    tell("prepend", mc.prepend, "new", "5", noreply=False)
    tell("append to nothing", mc.append, "missing", "5", noreply=False)
    tell("incr", mc.incr, "new", 10)
    tell("decr", mc.decr, "new", 1000)
    tell("incr of nothing", mc.incr, "missing", 1)
    tell("incr of text", mc.incr, "text", 1)
    tell("incr downwards", mc.incr, "new", -1)
    tell("get_many", lambda: sorted(mc.get_many(["new", "missing", "int"]).items()))
    tell("set_many", mc.set_many, {"a": "1", "b": "2"}, noreply=False)
    value, cas = mc.gets("a")
    tell("gets", lambda: (value, cas is not None))
    tell("cas", mc.cas, "a", "3", cas, noreply=False)
    tell("cas with the same", mc.cas, "a", "4", cas, noreply=False)
    tell("cas of nothing", mc.cas, "missing", "4", cas, noreply=False)
    tell("gets_many", lambda: sorted((key, got[0]) for key, got in mc.gets_many(["a", "b"]).items()))
    tell("touch", mc.touch, "a", 100, noreply=False)
    tell("touch of nothing", mc.touch, "missing", 100, noreply=False)
    tell("gat", mc.raw_command, b"gat 100 a", b"END\r\n")
    tell("delete", mc.delete, "a", noreply=False)
    tell("delete of nothing", mc.delete, "a", noreply=False)
    tell("delete_many", mc.delete_many, ["b", "missing"], noreply=False)
    tell("set that has ended", mc.set, "ended", "x", expire=-1, noreply=False)
    tell("get of it", mc.get, "ended")
    tell("flags", mc.set, "flagged", "x", flags=0xFFFFFFFF, noreply=False)
    tell("a key that is too long", mc.get, "k" * 251)
    tell("too large", mc.set, "large", b"x" * 1_100_000, noreply=False)
    tell("get of it", mc.get, "large")
    tell("meta noop", mc.raw_command, b"mn")
    tell("meta set", mc.raw_command, b"ms meta 5 T100 F7 k O1\r\nvalue")
    tell("meta get", mc.raw_command, b"mg meta v f k s O2", b"value\r\n")
    tell("unknown", mc.raw_command, b"nonsense")
    tell("version", lambda: len(mc.version()) > 0)
    tell("statistics", lambda: sorted({b"pid", b"curr_items", b"cmd_get"} & mc.stats().keys()))
    tell("settings", lambda: sorted({b"maxconns", b"evictions", b"cas_enabled"} & mc.stats("settings").keys()))
    tell("quit", mc.quit)
    tell("get after it", mc.get, "text")


def main(address):
    host, port = address.split(":")
    for kind in (Client, PooledClient):
        exercise(kind((host, int(port)), serde=serde.pickle_serde, timeout=10, encoding="utf-8"))


main(sys.argv[1])
