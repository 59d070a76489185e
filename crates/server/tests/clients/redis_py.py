"""redis-py: what each call says, line by line, so that two servers can be compared: redis_py.py HOST:PORT PROTOCOL"""

import sys
import time

import redis


def tell(what, call, *args, **options):
    try:
        got = repr(call(*args, **options))
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
    print(f"{what}: {got[:200]} ({len(got)})")


def near(call, *args):
    """A remaining time, in tens."""
    left = call(*args)
    return left if left < 0 else round(left / 10)


def main(address, protocol):
    host, port = address.split(":")
    r = redis.Redis(host=host, port=int(port), protocol=int(protocol), socket_timeout=10)
    tell("ping", r.ping)
    tell("echo", r.echo, "hello")
    tell("flushall", r.flushall)
    tell("dbsize", r.dbsize)
    tell("get of nothing", r.get, "missing")
    for name, value in {"text": "grüße", "bytes": bytes(range(256)), "empty": b"", "int": -7, "float": 2.5, "large": b"x" * 500_000}.items():
        tell(f"set {name}", r.set, name, value)
        tell(f"get {name}", r.get, name)
        tell(f"strlen {name}", r.strlen, name)
    tell("set nx", r.set, "new", "1", nx=True)
    tell("set nx again", r.set, "new", "2", nx=True)
    tell("set xx", r.set, "new", "3", xx=True)
    tell("set xx of nothing", r.set, "missing", "3", xx=True)
    tell("set get", r.set, "new", "4", get=True)
    tell("set ex", r.set, "timed", "1", ex=100)
    tell("ttl", near, r.ttl, "timed")
    tell("set keepttl", r.set, "timed", "2", keepttl=True)
    tell("ttl", near, r.ttl, "timed")
    tell("set px", r.set, "timed", "1", px=100_500)
    tell("pttl", lambda: near(r.pttl, "timed") > 0)
    tell("set exat", r.set, "timed", "1", exat=int(time.time()) + 1000)
    tell("ttl", near, r.ttl, "timed")
    tell("persist", r.persist, "timed")
    tell("ttl", r.ttl, "timed")
    tell("ttl of nothing", r.ttl, "missing")
    tell("expire", r.expire, "timed", 100)
    tell("expire gt", r.expire, "timed", 50, gt=True)
    tell("pexpire", r.pexpire, "timed", 100_000)
    tell("expireat", r.expireat, "timed", int(time.time()) + 100)
    tell("expire of nothing", r.expire, "missing", 100)
    tell("expire in the past", r.expire, "timed", -1)
    tell("exists", r.exists, "timed", "new", "new")
    tell("getset", r.getset, "new", "5")
    tell("getex", r.getex, "new", ex=100)
    tell("getdel", r.getdel, "new")
    tell("getdel of nothing", r.getdel, "new")
    tell("setnx", r.setnx, "new", "1")
    tell("setex", r.setex, "new", 100, "1")
    tell("psetex", r.psetex, "new", 100_000, "1")
    tell("incr", r.incr, "n")
    tell("incrby", r.incrby, "n", 41)
    tell("decr", r.decr, "n")
    tell("decrby", r.decrby, "n", 100)
    tell("incr of text", r.incr, "text")
    tell("incr too far", r.incrby, "n", 2**63 - 1)
    tell("append", r.append, "n", "x")
    tell("getrange", r.getrange, "text", 1, -2)
    tell("setrange", r.setrange, "text", 3, "abc")
    tell("get", r.get, "text")
    tell("mset", r.mset, {"a": 1, "b": "two", "c": b"three"})
    tell("mget", r.mget, "a", "missing", "b", "c")
    tell("msetnx", r.msetnx, {"a": 2, "d": 4})
    tell("msetnx", r.msetnx, {"d": 4, "e": 5})
    tell("touch", r.touch, "a", "b", "missing")
    tell("type", r.type, "a")
    tell("type of nothing", r.type, "missing")
    tell("keys", lambda: sorted(r.keys("[abc]")))
    tell("scan", lambda: sorted(set(r.scan_iter(match="*e*", count=3))))
    tell("randomkey", lambda: r.randomkey() in r.keys())
    tell("del", r.delete, "a", "b", "missing")
    tell("unlink", r.unlink, "c", "missing")
    tell("unknown", r.execute_command, "NONSENSE", "with", "arguments")
    tell("arity", r.execute_command, "GET")
    tell("wrong option", r.execute_command, "SET", "a", "b", "NOPE")
    with r.pipeline(transaction=False) as pipe:
        for number in range(500):
            pipe.set(f"p{number}", number).get(f"p{number}").incr("pipelined")
        tell("pipeline", lambda: [answer for answer in pipe.execute()][-6:])
    tell("dbsize", r.dbsize)
    tell("flushdb", r.flushdb)
    tell("dbsize", r.dbsize)
    decoded = redis.Redis(host=host, port=int(port), protocol=int(protocol), decode_responses=True, client_name="somebody")
    tell("set decoded", decoded.set, "grüße", "grüße")
    tell("get decoded", decoded.get, "grüße")
    tell("client name", decoded.client_getname)
    tell("info", lambda: "redis_version" in r.info())
    tell("set that ends soon", r.set, "soon", "x", px=1100)
    deadline = time.monotonic() + 10
    while r.get("soon") is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    tell("get of what has ended meanwhile", r.get, "soon")


main(*sys.argv[1:])
