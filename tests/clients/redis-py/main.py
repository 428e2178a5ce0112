"""Talks to the Redis at the given port, with redis-py as it comes. Ends with 0 when every answer is right."""

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


async def use_asyncio(client):
    assert await client.set("pya", 1)
    assert await asyncio.gather(*(client.get("pya") for _ in range(50))) == [b"1"] * 50
    await client.aclose()


def main():
    port = int(sys.argv[1])
    login = {"password": sys.argv[2]} if len(sys.argv) > 2 else {}
    for protocol in ({}, {"protocol": 2}, {"protocol": 3}):
        with redis.Redis(port=port, **login, **protocol) as client:
            use(client)
        asyncio.run(use_asyncio(redis.asyncio.Redis(port=port, **login, **protocol)))
    with redis.Redis(port=port, client_name="me", **login) as client:
        assert client.client_getname() in (b"me", "me")
    print("redis-py", redis.__version__, "is content")


main()
