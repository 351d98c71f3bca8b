"""The script of a job in a real machine that means harm to the relay, for so many seconds. The environment is the job's."""

import asyncio
import base64
import collections
import json
import os
import sys

RELAY = ("10.0.2.100", 80)
# Each a process of its own on the host: the hypervisor starts one for every connection.
CONNECTIONS_OF_EACH = 12
REFS = "/group/real.git/info/refs?service=git-upload-pack"
BATCH = "/group/real.git/info/lfs/objects/batch"
JOB = os.environ["CI_JOB_ID"]
TOKEN = os.environ["CI_JOB_TOKEN"]


def basic(user, password):
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


OWN = basic("gitlab-ci-token", TOKEN)


def request(method, path, headers=(), body=""):
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: r", *headers, *length, "", body]).encode()


def body(number):
    if number % 2 == 0:
        return request("PUT", f"/api/v4/jobs/{JOB}", ["Connection: close"], "[" * 60_000)
    headers = ["JOB-TOKEN: " + TOKEN, "Content-Type: text/plain", "Content-Length: 8388608"]
    return request("POST", f"/api/v4/jobs/{JOB}/artifacts", headers) + b"x" * 262_144


def junk(number):
    texts = [request("GET", "/nothing", ["Connection: close"]), b"\x16\x03\x01", b"GET /firerunner/boot HTTP/1.1\r\nX: "]
    return texts[number % len(texts)]


# What is sent, how many requests that is, for how long its answer is waited for, and whether all of it is read.
PROGRAMS = {
    "held requests": (lambda _: request("GET", "/firerunner/cancel", ["X-Padding: " + "x" * 8_000]), 1, 0.5, True),
    "pipelining": (lambda _: request("GET", "/firerunner/boot") * 300, 300, 1, True),
    "slow readers": (lambda _: request("POST", BATCH, [OWN], '{"kind":"large"}'), 1, 3, False),
    "bodies": (body, 1, 3, True),
    "guesses": (lambda n: request("GET", REFS, [basic("root", f"guess {n}"), "Connection: close"]), 1, 3, True),
    "refused requests": (junk, 1, 2, True),
}
sent = collections.Counter()
answered = collections.defaultdict(collections.Counter)


async def exchange(kind, number):
    """One connection: what it asks, and the status of the first answer."""
    text, requests, wait, is_read = PROGRAMS[kind]
    reader, writer = await asyncio.open_connection(*RELAY, limit=4_096)
    try:
        writer.write(text(number))
        sent[kind] += requests
        start = await asyncio.wait_for(reader.read(16), wait)
        answered[kind][start[9:12].decode("latin1") or "hung up"] += 1
        if not is_read:
            await asyncio.sleep(wait)
        while is_read and await asyncio.wait_for(reader.read(65_536), wait):
            pass
    finally:
        writer.transport.abort()


async def repeat(kind, first):
    number = first
    while True:
        try:
            await exchange(kind, number)
        except (OSError, TimeoutError, asyncio.TimeoutError) as error:
            answered[kind][type(error).__name__] += 1
        number += CONNECTIONS_OF_EACH
        await asyncio.sleep(0.01)


async def may_begin():
    """Whether GitLab answers this job's git, which the test lets it do when all begin."""
    try:
        reader, writer = await asyncio.open_connection(*RELAY)
        writer.write(request("GET", REFS, [OWN, "Connection: close"]))
        start = await asyncio.wait_for(reader.read(16), 10)
        writer.transport.abort()
        return start[9:12] == b"200"
    except (OSError, TimeoutError, asyncio.TimeoutError):
        return False


async def main(seconds):
    print("real guest: ready", flush=True)
    while not await may_begin():
        await asyncio.sleep(0.5)
    all_of_them = [repeat(kind, first) for first in range(CONNECTIONS_OF_EACH) for kind in PROGRAMS]
    tasks = [asyncio.ensure_future(each) for each in all_of_them]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    print("real guest: " + json.dumps({"sent": sent, "answered": answered}), flush=True)


asyncio.run(main(float(sys.argv[1])))
