"""The server under faults: hostile requests, packs that are replaced, slow clients, clients that leave.

    python -m benchmarks.serving faults

Every request must get the status that is right for it, and memory and descriptors must stay where they were.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import describe_machine, describe_run
from benchmarks.serving.client import Client, Reply, load, read_answer, request
from benchmarks.serving.hostile import JPEG, PREDICT, hostile_requests
from benchmarks.serving.running import ServerProcess, add_options, picture, write_served_pack
from lpt.packs.pack import CARD_NAME, TENSORS_NAME, load_pack, write_pack
from lpt.system.files import write_json

MODULE = "benchmarks.serving"
PACK, STEADY = "changing", "steady"
CLIENTS, PICTURES = 8, 16
_PARTS = 10


def main(argv: Sequence[str]) -> None:
    """Measure, and write the record."""
    args = parse(argv)
    with tempfile.TemporaryDirectory(prefix="lpt-serving-") as folder:
        results = measure(args, Path(folder))
    record = {
        **describe_run(
            "lpt serve under hostile requests, replaced packs, slow clients and clients that leave",
            MODULE,
            ["faults", *argv],
        ),
        **describe_machine(args.device),
        "settings": {"backbone": args.backbone, "input_size": args.size, "clients": CLIENTS},
        **results,
    }
    write_json(args.output, record)
    print(json.dumps(results, indent=1))
    print(f"written: {args.output}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving faults", description=__doc__)
    add_options(parser, size=64)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=20, help="one in so many requests is hostile")
    parser.add_argument("--replacements", type=int, default=50)
    parser.add_argument("--leavers", type=int, default=64, help="clients that disconnect")
    parser.add_argument("--slow-seconds", type=float, default=35.0, help="how long slow clients are watched")
    parser.add_argument("--output", type=Path, default=Path("docs/results/serving_faults.json"))
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all parts against one server."""
    served = folder / "packs"
    write_served_pack(served / STEADY, args)
    versions = [write_served_pack(folder / "versions" / str(seed), args, seed) for seed in (1, 2)]
    put_version(versions[0], served / PACK)
    images = [picture(number, 200, 150) for number in range(PICTURES)]
    with ServerProcess(served, args, ["--watch"], folder / "log.jsonl") as server:
        results: dict[str, Any] = {
            "hostile": hostile(server, images, args),
            "replaced": asyncio.run(replaced(server.port, images, versions, served / PACK, args.replacements)),
            "slow": asyncio.run(slow(server.port, images, args.slow_seconds)),
            "leavers": asyncio.run(leavers(server.port, images, args.leavers)),
        }
        results["exit_code"] = server.stop()
    results["tracebacks_in_log"] = (folder / "log.jsonl").read_text(encoding="utf-8").count("Traceback")
    return results


def good(images: list[bytes], pack: str = STEADY) -> list[bytes]:
    """Return requests that must be answered with 200."""
    return [request(PREDICT.format(pack=pack), image, JPEG) for image in images]


def hostile(server: ServerProcess, images: list[bytes], args: argparse.Namespace) -> dict[str, Any]:
    """Mix hostile requests among good ones; return statuses, memory and descriptors."""
    right = good(images)
    wrong = hostile_requests(STEADY, images[0])
    statuses: Counter[str] = Counter()
    mistakes: Counter[str] = Counter()
    memory: list[float] = []

    def is_hostile(number: int) -> bool:
        return number % args.every == args.every - 1

    def content(number: int) -> bytes:
        if is_hostile(number):
            return wrong[number // args.every % len(wrong)].content
        return right[number % PICTURES]

    def note(number: int, reply: Reply) -> None:
        case = wrong[number // args.every % len(wrong)] if is_hostile(number) else None
        statuses[str(reply.status)] += 1
        if reply.status not in ((200,) if case is None else case.statuses):
            mistakes[f"{'good' if case is None else case.name}: {reply.status}"] += 1

    part = max(args.requests // _PARTS, 1)
    warm_up = min(part, 40 * args.every)  # each kind of request once, before memory is looked at
    asyncio.run(load(server.port, CLIENTS, warm_up, content, note))
    descriptors = settled_descriptors(server)
    start = time.perf_counter()
    for _ in range(_PARTS):
        asyncio.run(load(server.port, CLIENTS, part, content, note))
        memory.append(round(server.resident_mb, 1))
    return {
        "requests": warm_up + part * _PARTS,
        "kinds_of_hostile_requests": len(wrong),
        "statuses": dict(sorted(statuses.items())),
        "wrong_statuses": dict(mistakes),
        "seconds": round(time.perf_counter() - start, 1),
        "resident_mb_after_each_tenth": memory,
        "growth_mb": round(memory[-1] - memory[0], 1),
        "descriptors_before": descriptors,
        "descriptors_after": settled_descriptors(server),
    }


def settled_descriptors(server: ServerProcess) -> int:
    """Return the open descriptors once the connections of the last part are closed."""
    before = -1
    for _ in range(40):
        now = server.descriptors
        if now == before:
            return now
        before = now
        time.sleep(0.5)
    return before


def put_version(version: Path, path: Path) -> None:
    """Write a version of a pack to where it is served."""
    card = (version / CARD_NAME).read_text(encoding="utf-8")
    write_pack(path, load_pack(version).info, (version / TENSORS_NAME).read_bytes(), card)


async def replaced(port: int, images: list[bytes], versions: list[Path], path: Path, times: int) -> dict[str, Any]:
    """Replace a pack again and again while others ask it."""
    requests = good(images, PACK)
    statuses: Counter[str] = Counter()
    longest = 0.0
    done = asyncio.Event()

    async def ask() -> None:
        nonlocal longest
        client = Client(port)
        number = 0
        while not done.is_set():
            reply = await client.ask(requests[number % PICTURES])
            statuses[str(reply.status)] += 1
            longest = max(longest, reply.seconds)
            number += 1
        await client.close()

    askers = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
    taken = 0
    for turn in range(times):
        version = versions[(turn + 1) % 2]
        await asyncio.to_thread(put_version, version, path)
        taken += await taken_up(port, load_pack(version).info.tensors_sha256)
    done.set()
    await asyncio.gather(*askers)
    failed = sum(count for status, count in statuses.items() if status != "200")
    return {
        "replacements": times,
        "taken_up": taken,
        "requests": sum(statuses.values()),
        "failed": failed,
        "longest_s": round(longest, 3),
    }


async def taken_up(port: int, sha256: str) -> bool:
    """Wait until the server says that it serves this version."""
    client = Client(port)
    try:
        for _ in range(200):
            reply = await client.ask(request(f"/v1/packs/{PACK}", method="GET"))
            if reply.status == 200 and json.loads(reply.body)["pack_sha256"] == sha256:
                return True
            await asyncio.sleep(0.1)
    finally:
        await client.close()
    return False


async def slow(port: int, images: list[bytes], seconds: float) -> dict[str, Any]:
    """Send a head and a body byte by byte; others go on meanwhile."""
    requests = good(images)
    statuses: Counter[str] = Counter()
    ends: dict[str, Any] = {"slow_head": "still open", "slow_body": "still open"}

    async def drip(name: str, at_once: bytes, rest: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        start = time.perf_counter()
        answer = asyncio.create_task(read_answer(reader))
        with contextlib.suppress(ConnectionError):
            writer.write(at_once)
            for byte in rest:
                if answer.done():
                    break
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.25)
        answer.cancel()
        outcome = (await asyncio.gather(answer, return_exceptions=True))[0]
        if not isinstance(outcome, asyncio.CancelledError):
            status = outcome[0] if isinstance(outcome, tuple) else "closed"
            ends[name] = {"status": status, "after_s": round(time.perf_counter() - start, 1)}
        writer.close()

    content = requests[0]
    body = content.index(b"\r\n\r\n") + 4
    length = int(seconds / 0.25)
    head = b"POST /v1/predict HTTP/1.1\r\nX-Slow: "
    dripping = [
        asyncio.create_task(drip("slow_head", head, b"x" * length)),
        asyncio.create_task(drip("slow_body", content[:body], content[body : body + length])),
    ]
    client = Client(port)
    longest, number = 0.0, 0
    while not all(task.done() for task in dripping):
        reply = await client.ask(requests[number % PICTURES])
        statuses[str(reply.status)] += 1
        longest = max(longest, reply.seconds)
        number += 1
        await asyncio.sleep(0.02)
    await client.close()
    return {**ends, "other_requests": dict(statuses), "longest_other_s": round(longest, 3)}


async def leavers(port: int, images: list[bytes], clients: int, pack: str = STEADY) -> dict[str, Any]:
    """Let clients send a request and leave at once; then the server must be idle, and answer."""
    requests = good(images, pack)
    writers = []
    for number in range(clients):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(requests[number % PICTURES])
        writers.append(writer)
    for writer in writers:
        await writer.drain()
        writer.transport.abort()
    client = Client(port)
    queued = -1.0
    for _ in range(100):
        text = (await client.ask(request("/metrics", method="GET"))).body.decode()
        queued = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("lpt_queue_images "))
        if not queued:
            break
        await asyncio.sleep(0.1)
    reply = await client.ask(requests[0])
    await client.close()
    return {"clients": clients, "queued_after": queued, "status_of_next_request": reply.status}
