"""python-binary-memcached with a user: bmemcached_auth.py HOST:PORT USER PASSWORD"""

import sys

import bmemcached

checks = 0


def check(what, got, expected):
    global checks
    checks += 1
    if got != expected:
        sys.exit(f"bmemcached: {what}: got {got!r:.200}, expected {expected!r:.200}")


def refused(client):
    try:
        return not client.set("stranger", "value")
    except bmemcached.exceptions.MemcachedException:
        return True


def main(address, user, password):
    mc = bmemcached.Client((address,), user, password)
    check("set", mc.set("key", "value"), True)
    check("get", mc.get("key"), "value")
    check("a wrong password", refused(bmemcached.Client((address,), user, password + "x")), True)
    check("nobody", refused(bmemcached.Client((address,))), True)
    check("get again", mc.get("key"), "value")


main(*sys.argv[1:])
print(f"ok: {checks} checks")
