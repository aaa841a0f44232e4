"""Telemetry messages a second without loss, plain and with CURVE: a publisher process to a subscriber process.

    python -m tests.bench.telemetry [--seconds 2] [--json]

The rate is raised until the subscriber, who decodes every message and checks its number, misses one; the last rate
without loss counts. The link is measured as well: what `publish` costs the engine, and how many facts a second a client
in the same process takes, all in order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import zmq

from koc_qt.link.auth import Gatekeeper, secure_client
from koc_qt.link.keys import ProfileKeys, load_or_create_keys
from koc_qt.link.messages import OrderChanged
from koc_qt.link.telemetry import TelemetryPublisher
from tests.fakes.link import LOOPBACK, FakeEngine, serve, strategy_snapshot

TOPICS = 100
RATES = (5_000, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 60_000, 80_000, 100_000, 150_000)
TRIES = 4  # of each rate: on a shared machine something else may be what loses messages
FACTS = 50_000


class PlainPublisher(TelemetryPublisher):
    """Without CURVE, to see what it costs."""

    def _secure(self, keys: ProfileKeys) -> None:
        pass


class Numbered(msgspec.Struct):
    """What the subscriber checks."""

    topic: str
    sequence: int


def subscribe(endpoint: str, key_folder: str, curve: bool) -> None:
    """Count messages and missing numbers until told the end; the subscriber process."""
    decoder = msgspec.json.Decoder(Numbered)
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        if curve:
            keys = load_or_create_keys(Path(key_folder))
            secure_client(socket, keys.client, keys.engine.public)
        socket.rcvhwm = 10_000
        socket.connect(endpoint)
        socket.subscribe("")
        last: dict[str, int] = {}
        received = lost = 0
        while True:
            topic, body = socket.recv_multipart()
            if topic == b"hello":
                if not received:
                    print("joined", flush=True)
                received = 1
                continue
            if topic == b"end":
                print(json.dumps({"received": received - 1, "lost": lost}), flush=True)
                return
            message = decoder.decode(body)
            received += 1
            before = last.get(message.topic, 0)
            lost += message.sequence - before - 1
            last[message.topic] = message.sequence


async def one_rate(folder: Path, curve: bool, rate: float, seconds: float) -> dict[str, Any]:
    """Publish at `rate` for some seconds; rate 0 is as fast as it goes."""
    keys = load_or_create_keys(folder)
    context: zmq.Context[Any] = zmq.Context()
    gatekeeper = Gatekeeper(context, keys)
    gatekeeper.start()
    publisher = (TelemetryPublisher if curve else PlainPublisher)(context, LOOPBACK, keys)
    command = [sys.executable, "-m", "tests.bench.telemetry", "--subscribe", publisher.endpoint, "--keys", str(folder)]
    process = await asyncio.create_subprocess_exec(*command, *["--curve"] * curve, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        pulse = strategy_snapshot()
        joined = asyncio.ensure_future(process.stdout.readline())
        while not joined.done():
            publisher.publish("hello", pulse)
            await asyncio.sleep(0.01)
        topics = [f"strategy.s{number}" for number in range(TOPICS)]
        began, sent, busy = time.perf_counter(), 0, 0.0
        while (elapsed := time.perf_counter() - began) < seconds:
            burst = int(elapsed * rate) - sent if rate else 100
            start = time.perf_counter()
            for _ in range(burst):
                publisher.publish(topics[sent % TOPICS], pulse)
                sent += 1
            busy += time.perf_counter() - start
            await asyncio.sleep(0.001 if rate else 0)
        took = time.perf_counter() - began
        result = asyncio.ensure_future(process.stdout.readline())
        while not result.done():  # said again until it is heard: the queue may be full
            publisher.publish("end", pulse)
            await asyncio.sleep(0.01)
        heard = json.loads(await result)
        lost = sent - heard["received"]
        return {"rate": sent / took, "sent": sent, "lost": lost, "publish_us": busy / max(sent, 1) * 1e6}
    finally:
        process.kill()
        await process.wait()
        publisher.close()
        gatekeeper.close()
        context.term()


def without_loss(folder: Path, curve: bool, seconds: float) -> dict[str, Any]:
    """Raise the rate until something is lost, or it cannot be reached."""
    best: dict[str, Any] = {}
    for rate in RATES:
        for _ in range(TRIES):
            run = asyncio.run(one_rate(folder, curve, rate, seconds))
            if not run["lost"]:
                break
        else:
            break
        best = run
        if run["rate"] < rate * 0.9:
            break
    return best


async def link_facts(folder: Path) -> dict[str, float]:
    """Publish orders to one client in the same process, as fast as it takes them."""
    got = 0

    def count(fact: object) -> None:
        nonlocal got
        got += isinstance(fact, OrderChanged)

    async with serve(folder, FakeEngine()) as link:
        client = link.client(on_fact=count)
        await client.connect()
        order = link.engine.place()
        publish_s, began = 0.0, time.perf_counter()
        for sent in range(0, FACTS, 500):
            start = time.perf_counter()
            for _ in range(500):
                link.server.publish(OrderChanged(order))
            publish_s += time.perf_counter() - start
            while got < sent - 2_000:  # noqa: ASYNC110 - as fast as it goes
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        while got < FACTS + 1:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0)
        took = time.perf_counter() - began
        assert client.gaps == link.server.resyncs == 0
        await client.close()
    return {"facts_per_s": FACTS / took, "publish_us": publish_s / FACTS * 1e6}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--subscribe", metavar="ENDPOINT", help=argparse.SUPPRESS)
    parser.add_argument("--keys", help=argparse.SUPPRESS)
    parser.add_argument("--curve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.subscribe:
        subscribe(args.subscribe, args.keys, args.curve)
        return
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        plain = without_loss(keys, False, args.seconds)
        curve = without_loss(keys, True, args.seconds)
        link = asyncio.run(link_facts(Path(folder)))
    figures = {
        "telemetry_plain_per_s": round(plain["rate"]),
        "telemetry_curve_per_s": round(curve["rate"]),
        "plain_to_curve": round(plain["rate"] / curve["rate"], 2),
        "telemetry_message_bytes": len(msgspec.json.encode(strategy_snapshot())),
        "telemetry_publish_us": round(curve["publish_us"], 1),
        "link_facts_per_s": round(link["facts_per_s"]),
        "link_publish_us": round(link["publish_us"], 1),
    }
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:>10,}")


if __name__ == "__main__":
    main()
