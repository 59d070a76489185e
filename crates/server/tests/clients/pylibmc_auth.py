"""pylibmc (libmemcached) with a user: pylibmc_auth.py HOST:PORT USER PASSWORD"""

import sys

import pylibmc

checks = 0


def check(what, got, expected):
    global checks
    checks += 1
    if got != expected:
        sys.exit(f"pylibmc: {what}: got {got!r:.200}, expected {expected!r:.200}")


def refused(client):
    try:
        return not client.set("stranger", "value")
    except pylibmc.Error:
        return True


def main(address, user, password):
    mc = pylibmc.Client([address], binary=True, username=user, password=password)
    check("set", mc.set("key", "value"), True)
    check("get", mc.get("key"), "value")
    wrong = pylibmc.Client([address], binary=True, username=user, password=password + "x")
    check("a wrong password", refused(wrong), True)
    check("nobody", refused(pylibmc.Client([address], binary=True)), True)
    check("get again", mc.get("key"), "value")


main(*sys.argv[1:])
print(f"ok: {checks} checks")
