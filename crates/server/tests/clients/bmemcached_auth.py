"""python-binary-memcached with a user: bmemcached_auth.py HOST:PORT USER PASSWORD [CA, for TLS]"""

import ssl
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


def main(address, user, password, ca=None):
    tls = ssl.create_default_context(cafile=ca) if ca else None

    def connect(*user):
        return bmemcached.Client((address,), *user, tls_context=tls)

    mc = connect(user, password)
    check("set", mc.set("key", "value"), True)
    check("get", mc.get("key"), "value")
    check("a wrong password", refused(connect(user, password + "x")), True)
    check("nobody", refused(connect()), True)
    check("get again", mc.get("key"), "value")


main(*sys.argv[1:])
print(f"ok: {checks} checks")
