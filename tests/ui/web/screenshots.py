"""Pictures of the labelling pages for the documentation, taken from the real app.

    python tests/ui/web/screenshots.py docs/images [--rollouts DIR]

It films the household, lets the world model that ships dream on from there, once as it is and once with a small adapter, and
opens the app over those clips. A crowd of programs answers through the campaign, as the page would; one of them always takes
the left clip. Every picture is at most 150 kB.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from conftest import Server, open_browser, serve_app
from PIL import Image
from typer.testing import CliRunner

from align.preferences.annotators import CHOICES, SimulatedAnnotator
from align.preferences.campaign import Answer, Break, Lease, Submission
from align.video.folder import load_clip_folder
from align.video.writer import ClipFolderWriter

MAX_BYTES = 150_000
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 375, "height": 667}
STAGE = ".g-stage.is-current"
STILL = "document.getAnimations().every((one) => one.playState !== 'running' || one.effect.getTiming().iterations === Infinity)"
GUIDELINE = """# Judge what you see

Answer each question **on its own**. A clip can be the better one on one question and the worse one on another.

- **Spills less**: count what lies on the rug, not how fast the jug moves. One drop is a spill.
- **Breaks less**: a vase that only wobbles is whole.
- **Treats the person better**: touching somebody in passing counts as a bump.
- **Does the task better**: the liquid is in the glass, the block on the shelf, the robot through the corridor.

If they are alike, say so: *Tie* is an answer. If you can't tell, skip.
"""
SMALL = ("num_workers=1",)


def gptsim(*arguments: str) -> None:
    """The command in this process."""
    from ui.cli.main import app

    result = CliRunner().invoke(app, arguments, prog_name="gptsim")
    if result.exit_code:
        raise SystemExit(result.output)


def make_rollouts(out: Path) -> Path:
    """Dreams of the base and of an adapter on the same contexts, in one folder."""
    gptsim("run", "simulate", "out=clips", "split=tune", "num_contexts=6", *SMALL)
    dream = ("run", "rollout", "contexts=clips", *SMALL)
    gptsim(*dream, "--name", "base", "out=base", "samples_per_context=4")
    gptsim("run", "annotate", "rollouts=base", "out=simulated.parquet", "budget=300")
    gptsim("run", "reward", "--name", "first", "rollouts=base", "votes=simulated.parquet")
    learn = ("rollouts=base", "votes=simulated.parquet", "reward_model=runs/first/reward_model")
    gptsim("run", "dpo", "--name", "first-adapter", *learn, "num_steps=100", "batch_size=8", "out=adapter")
    gptsim(*dream, "--name", "aligned", "out=aligned", "adapter=adapter", "samples_per_context=2", "seed=1")
    with ClipFolderWriter(out, load_clip_folder("base").info) as writer:
        for maker in ("base", "aligned"):
            for row in pq.read_table(f"{maker}/metadata.parquet").to_pylist():
                if int(row["rollout_id"][-1]) < 2:  # two of each context
                    writer.add_file(row | {"rollout_id": f"{row['rollout_id']}-{maker}"}, Path(maker, row["file_name"]))
    return out


# ------------------------------------------------------------------------------------------------------------- the crowd


COMMENTS = {"politeness": "The person falls and nobody helps.", "breakage": "Shards where people walk."}
"""What somebody says about a hazard of an axis."""


@dataclass(frozen=True, order=True)
class Person:
    """Somebody of the crowd.

    Attributes:
        name: As in the campaign.
        eyes: How well this person sees.
        pause_s: Mean time for an answer.
        careless: Takes the left clip whatever it shows.
    """

    name: str
    eyes: SimulatedAnnotator = field(compare=False)
    pause_s: float
    careless: bool = False


def make_people() -> list[Person]:
    """Six who look, and one who clicks."""
    skills = {"ada": 2.6, "emmy": 2.3, "grace": 2.0, "hedy": 1.7, "joan": 1.4, "vera": 1.1}
    people = [
        Person(name, SimulatedAnnotator(name, skill, tie_width=8.0, lapse_rate=0.03), 5 + 2 * place)
        for place, (name, skill) in enumerate(skills.items())
    ]
    return [*people, Person("max", SimulatedAnnotator("max"), 2.0, careless=True)]


def see(rollouts: Path) -> dict[str, dict[str, float]]:
    """What the judge that ships reads from each clip: rollout id to the probability of each outcome."""
    from align.audit.judge import OutcomeJudge
    from align.world_models.world_model import SHIPPED

    folder = load_clip_folder(rollouts)
    read = OutcomeJudge.load(SHIPPED["household"] / "labeller").judge(np.stack([folder.video(i) for i in range(len(folder))]))
    names = folder.table["rollout_id"]
    return {name: {axis: float(np.nan_to_num(read[axis][i], nan=0.5)) for axis in read} for i, name in enumerate(names)}


def answer(person: Person, lease: Lease, seen: dict[str, dict[str, float]], rng: random.Random) -> list[Answer]:
    """What this person says about each question, in terms of the screen."""
    first, second = (lease.task.rollouts[place] for place in lease.shown)
    answers = []
    for axis in lease.axes:
        chances = person.eyes.vote_probabilities([seen[first][axis]], [seen[second][axis]], [True], axis)[0]
        choice = rng.choices(CHOICES, chances)[0]
        said = {"a": "left", "b": "right"}.get(choice, choice)
        if first == second:
            said = "tie" if rng.random() < 0.95 else "left"
        if person.careless and rng.random() < 0.9:
            said = "left"
        answers.append(Answer(axis=axis, choice=said, response_time_s=round(person.pause_s * rng.uniform(0.5, 1.6), 1)))
    return answers


def mark(lease: Lease, seen: dict[str, dict[str, float]], rng: random.Random) -> tuple[Break, ...]:
    """Where the clips stop making sense; a clip breaks for everybody or for nobody, at about the same moment."""
    marks = []
    for position, place in enumerate(lease.shown):
        own = random.Random(lease.task.rollouts[place])
        if (own.random() < 0.6) != (rng.random() < 0.08):
            marks.append(Break(position=position, none=True))
            continue
        time_s = min(max(own.uniform(0.4, 1.7) + rng.gauss(0, 0.07), 0.1), 1.9)
        marks.append(Break(position=position, time_s=round(time_s, 3), category="object", severity=2))
    return tuple(marks)


def work(server: Server, people: Sequence[Person], seen: dict[str, dict[str, float]], rng: random.Random) -> None:
    """Everybody works now and then in the last two weeks, mostly since yesterday."""
    now = datetime.now(UTC)
    moments = []
    for person in people:
        accounts = server.app.state.gptsim.accounts
        accounts.redeem(accounts.invite("labeler", "boss"), person.name, None)
        for hours_ago in (*rng.sample(range(46), 4), *rng.sample(range(48, 330), 3)):
            start = now - timedelta(hours=hours_ago, minutes=rng.uniform(4, 56))
            moments += [(start + timedelta(seconds=2 * person.pause_s * i), person) for i in range(rng.randint(4, 11))]
    flagged = dict(COMMENTS)
    for number, (moment, person) in enumerate(sorted(entry for entry in moments if entry[0] < now)):
        for lease in server.campaign.lease(person.name, 1, moment):
            sent = Submission(
                submission_id=f"s{number}",
                lease_id=lease.lease_id,
                answers=tuple(answer(person, lease, seen, rng)),
                breaks=() if person.careless else mark(lease, seen, rng),
                guideline_version="1",
            )
            server.campaign.submit(sent, person.name, moment)
            axis, clip = lease.axes[0], seen[lease.task.rollouts[lease.shown[0]]]
            if axis in flagged and clip[axis] > 0.9:
                server.campaign.flag(f"f{number}", lease.lease_id, 0, "harm", True, person.name, flagged.pop(axis))


# ------------------------------------------------------------------------------------------------------------ the pictures


class Camera:
    """Opens pages as one person and takes pictures of them.

    Args:
        browser: Playwright's.
        out: Where the pictures go.
    """

    def __init__(self, browser: Any, out: Path) -> None:
        self._browser, self._out = browser, out

    @contextmanager
    def open(self, server: Server, path: str, name: str = "", role: str = "labeler", **options: Any) -> Iterator[Any]:
        """A page in a window of its own; without a name nobody is signed in."""
        context = self._browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **options})
        if name:
            context.add_cookies([{"name": "gptsim_session", "value": server.sign_in(name, role), "url": server.url}])
        page = context.new_page()
        page.goto(server.url + path, wait_until="commit")
        yield page
        context.close()

    def take(self, page: Any, name: str, **options: Any) -> None:
        """Write a picture, with fewer colours where it would be too large."""
        page.wait_for_function(STILL)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        path = self._out / f"{name}.png"
        page.screenshot(path=path, animations="disabled", **options)
        picture = Image.open(path).convert("RGB")
        picture.save(path, optimize=True)
        if path.stat().st_size > MAX_BYTES:
            picture.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SystemExit(f"{path} has {size:,} bytes; show less of the page")
        sys.stdout.write(f"{path}: {picture.width} x {picture.height}, {size:,} bytes\n")


def hold_telling(server: Server, name: str, seen: dict[str, dict[str, float]], scene: str) -> None:
    """Let somebody hold the one task of a scene in which there is most to see; the page then shows it first."""
    held = server.campaign.lease(name, 50)

    def tell(lease: Lease) -> float:
        hazards = [seen[rollout][lease.axes[0]] for rollout in lease.task.rollouts]
        return max(hazards) - (min(hazards) if len(hazards) > 1 else 0) if scene in lease.task.context_id else -1

    best = max(held, key=tell)
    for lease in held:
        if lease is not best:
            server.campaign.give_back(lease.lease_id, name)
    server.campaign.lease(name, 1)  # what was handed back counts as open again from here on


def show(page: Any, share: float) -> None:
    """Stop the clips at a share of their length."""
    page.wait_for_selector(STAGE)
    page.evaluate(
        """(share) => {
          const slider = document.querySelector('.g-slider');
          slider.value = share * slider.max;
          slider.dispatchEvent(new Event('input', { bubbles: true }));
        }""",
        share,
    )
    page.wait_for_function(f"[...document.querySelectorAll('{STAGE} video')].every((video) => !video.seeking)")


def around(page: Any, selector: str, margin: int = 32) -> dict[str, float]:
    """Where on the page an element is, with some room around it."""
    box = page.locator(selector).bounding_box()
    return {key: box[key] - margin for key in ("x", "y")} | {key: box[key] + 2 * margin for key in ("width", "height")}


def picture_labeler(camera: Camera, server: Server, seen: dict[str, dict[str, float]]) -> None:
    """What a labeler sees."""
    with camera.open(server, "/sign-in") as page:
        page.fill("#name", "vera")
        camera.take(page, "label_sign_in", clip={"x": 390, "y": 150, "width": 500, "height": 500})
    hold_telling(server, "vera", seen, "pour")
    with camera.open(server, "/label/", "vera") as page:
        page.wait_for_selector("dialog[open]")
        camera.take(page, "label_guideline", clip=around(page, "dialog"))
        page.keyboard.press("Enter")
        show(page, 0.8)
        camera.take(page, "label_pair")
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        camera.take(page, "label_help", clip=around(page, "dialog"))
    hold_telling(server, "vera", seen, "shelf")
    with camera.open(server, "/label/", "vera", viewport=PHONE, device_scale_factor=2, has_touch=True) as page:
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Enter")
        show(page, 0.8)
        camera.take(page, "label_phone")


def picture_single(camera: Camera, rollouts: Path, seen: dict[str, dict[str, float]]) -> None:
    """The mode for single clips."""
    with serve_app(rollouts, "sqlite:///single.db", clips_per_task=1) as server:
        server.sign_in("vera")
        hold_telling(server, "vera", seen, "shelf")
        with camera.open(server, "/label/", "vera") as page:
            show(page, 0.8)
            camera.take(page, "label_single")


def picture_admin(camera: Camera, server: Server) -> None:
    """What an admin sees."""
    ready = {
        "People": "#people table",
        "Assignment": "#axes table",
        "Agreement": "#agreement figure svg",
        "Throughput": "#flags table",
    }
    with camera.open(server, "/admin/", "boss", "admin") as page:
        for tab, selector in ready.items():
            page.get_by_role("tab", name=tab, exact=True).click()
            page.wait_for_selector(selector, state="visible")
            height = page.evaluate("document.documentElement.scrollHeight")
            if tab == "Agreement":
                ranking = around(page, "#agreement section:has(> h2:text-is('Ranking'))", 6)
                camera.take(page, "admin_ranking", full_page=True, clip=ranking)
                height = ranking["y"]
            whole = {"x": 0, "y": 0, "width": DESK["width"], "height": height}
            camera.take(page, f"admin_{tab.lower()}", full_page=True, clip=whole)


def picture_withdrawal(camera: Camera, server: Server) -> None:
    """Models are trained on the votes, then the careless one withdraws."""
    gptsim("votes", "export", "votes.parquet", "--db", "sqlite:///labels.db")
    learn = ("rollouts=rollouts", "votes=votes.parquet")
    gptsim("run", "reward", "--name", "reward", *learn)
    small = ("num_steps=2", "batch_size=4", "save_every=2", "min_margin=0")
    gptsim("run", "dpo", "--name", "dpo", *learn, "reward_model=runs/reward/reward_model", *small)
    with camera.open(server, "/admin/", "boss", "admin") as page:
        page.get_by_role("button", name="Manage: max").click()
        page.get_by_role("button", name="Withdraw this person").click()
        page.get_by_label("Type the name to delete").fill("max")
        page.get_by_role("button", name="Delete everything").click()
        page.wait_for_selector("#message .notice")
        page.evaluate("scrollTo(0, 0)")
        camera.take(page, "admin_withdrawal")


def main() -> None:
    """Make everything in a folder that is thrown away, except the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rollouts", type=Path, help="take this folder, or make it where there is none")
    args = parser.parse_args()
    out = args.out.resolve()
    kept = args.rollouts.resolve() if args.rollouts else None
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        os.chdir(folder)
        rollouts = Path("rollouts")
        if kept is None or not kept.exists():
            make_rollouts(kept or rollouts)
        if kept:
            rollouts.symlink_to(kept)
        seen = see(rollouts)
        camera = Camera(browser, out)
        with serve_app(rollouts, "sqlite:///labels.db", overlap=4) as server:
            server.campaign.publish_guideline(GUIDELINE, "boss")
            work(server, make_people(), seen, random.Random(0))
            picture_labeler(camera, server, seen)
            picture_admin(camera, server)
            picture_withdrawal(camera, server)
        picture_single(camera, rollouts, seen)


if __name__ == "__main__":
    main()
