"""Talks to the Redis at the given port, with redis-py as it comes. Ends with 0 when every answer is right.

The second argument is the password, the third a file of authorities: with it, by TLS.
"""

import asyncio
import sys

import redis
import redis.asyncio


def use(client):
    assert client.ping() is True
    with client.pipeline(transaction=False) as pipe:
        for n in range(200):
            pipe.set(f"py{n}", n)
        assert pipe.execute() == [True] * 200
    assert client.mget("py1", "nosuch", "py199") == [b"1", None, b"199"]
    client.hset("pyhash", mapping={"f": "v", "g": "w"})
    assert client.hgetall("pyhash") == {b"f": b"v", b"g": b"w"}
    client.zadd("pyzset", {"m": 1.5})
    scores = client.zrange("pyzset", 0, -1, withscores=True)
    assert [tuple(score) for score in scores] == [(b"m", 1.5)], scores
    client.delete("pyset")
    client.sadd("pyset", "a", "b")
    assert set(client.smembers("pyset")) == {b"a", b"b"}
    assert client.get("nosuch") is None
    try:
        client.smove("pya", "pyb", 1)
    except redis.ResponseError as error:
        assert "same slot" in str(error), error
    else:
        raise AssertionError("keys of several slots were not refused")
    assert client.delete("py0", "py1", "py2", "nosuch") == 3
    assert client.echo("x") == b"x"


def use_what_one_connection_remembers(client):
    with client.pipeline() as pipe:
        assert pipe.set("{py}n", 1).incr("{py}n").get("{py}n").execute() == [True, 2, b"2"]
        pipe.watch("{py}n")
        pipe.multi()
        pipe.incr("{py}n")
        assert pipe.execute() == [3]
        pipe.watch("{py}n")
        client.incr("{py}n")
        pipe.multi()
        pipe.incr("{py}n")
        try:
            pipe.execute()
        except redis.WatchError:
            pass
        else:
            raise AssertionError("a watched key changed, and nothing was said")
    assert client.transaction(lambda pipe: pipe.multi() or pipe.incr("{py}n"), "{py}n") == [5]
    client.delete("{py}l")
    assert client.blpop("{py}l", timeout=0.01) is None
    client.rpush("{py}l", "a", "b")
    assert tuple(client.blpop("{py}l", timeout=1)) == (b"{py}l", b"a")
    assert client.blmove("{py}l", "{py}m", 1) == b"b"
    with client.pubsub() as listener:
        listener.subscribe("pya", "pyb")
        listener.psubscribe("py*")
        for _ in range(3):
            assert listener.get_message(timeout=5)["type"].endswith("subscribe")
        assert client.publish("pyb", "hello") == 2
        heard = [listener.get_message(timeout=5) for _ in range(2)]
        assert sorted(message["type"] for message in heard) == ["message", "pmessage"], heard
        assert all(message["data"] == b"hello" for message in heard), heard
        listener.unsubscribe()
    add = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    client.set("{py}s", 1)
    assert add(keys=["{py}s"], args=[2]) == 3
    assert client.script_exists(add.sha) == [True]
    with client.lock("pylock", timeout=5):
        assert client.exists("pylock") == 1
    assert client.exists("pylock") == 0
    assert {b"{py}s", b"pyhash", b"pyset"} <= set(client.scan_iter(match="*py*", count=50))
    assert client.dbsize() == len(set(client.scan_iter()))


async def use_asyncio(client):
    assert await client.set("pya", 1)
    assert await asyncio.gather(*(client.get("pya") for _ in range(50))) == [b"1"] * 50
    await client.aclose()


def main():
    port = int(sys.argv[1])
    login = {"password": sys.argv[2]} if len(sys.argv) > 2 and sys.argv[2] else {}
    if len(sys.argv) > 3:
        login |= {"host": "127.0.0.1", "ssl": True, "ssl_ca_certs": sys.argv[3]}
    for protocol in ({}, {"protocol": 2}, {"protocol": 3}):
        with redis.Redis(port=port, **login, **protocol) as client:
            use(client)
            use_what_one_connection_remembers(client)
        asyncio.run(use_asyncio(redis.asyncio.Redis(port=port, **login, **protocol)))
    with redis.Redis(port=port, client_name="me", **login) as client:
        assert client.client_getname() in (b"me", "me")
    print("redis-py", redis.__version__, "is content")


main()
