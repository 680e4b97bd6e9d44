"""How fast the labeler's page is: from a key press until the next clips play, and how far clips drift apart.

Run it by hand: ``python tests/ui/web/bench_labeler_page.py [--presses 80] [--json FILE]``. It serves the real app from a
process of its own, opens it in headless Chromium behind an emulated line of 100 ms and 10 Mbit/s, and presses keys like a
quick labeler. A press counts until *every* clip of the next pair is on the screen with a frame of its playback
(``requestVideoFrameCallback`` after ``play()``) and has fired ``playing``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from conftest import make_rollouts, open_browser, serve_app

WATCH = """
(() => {
  const play = HTMLMediaElement.prototype.play;
  const seen = new WeakMap();
  const presses = (window.benchPresses = []);
  const drifts = (window.benchDrifts = []);
  const shown = new WeakMap();
  HTMLMediaElement.prototype.play = function () {
    const times = {};
    seen.set(this, times);
    this.requestVideoFrameCallback((now) => { times.frame = now; });
    this.addEventListener('playing', () => { times.playing = performance.now(); }, { once: true });
    const follow = (_, { mediaTime }) => { shown.set(this, mediaTime); this.requestVideoFrameCallback(follow); };
    if (!shown.has(this)) { shown.set(this, 0); this.requestVideoFrameCallback(follow); }
    return play.call(this);
  };
  const clips = () => [...document.querySelectorAll('.g-stage.is-current video')];
  window.addEventListener('keydown', (event) => {
    const before = clips()[0];
    const press = { key: event.timeStamp };
    const poll = () => {
      const now = clips();
      const times = now.map((video) => seen.get(video) ?? {});
      if (now.length && now[0] !== before && times.every(({ frame, playing }) => frame && playing)) {
        press.took = Math.max(...times.flatMap(({ frame, playing }) => [frame, playing])) - press.key;
      } else if (performance.now() - press.key > 5000) press.took = Infinity;
      else return requestAnimationFrame(poll);
      return presses.push(press.took);
    };
    requestAnimationFrame(poll);
  }, true);
  const sample = () => {
    const now = clips();
    if (now.length > 1 && now.every((video) => !video.paused && !video.ended && !video.seeking)) {
      drifts.push([Math.abs(now[0].currentTime - now[1].currentTime), Math.abs(shown.get(now[0]) - shown.get(now[1]))]);
    }
    requestAnimationFrame(sample);
  };
  requestAnimationFrame(sample);
})();
"""


def _serve(rollouts: Path, db_url: str, connection: Any) -> None:
    with serve_app(rollouts, db_url, ("quality=Which one is better?",), per_context=1) as server:
        connection.send((server.url, server.sign_in("bench")))
        connection.recv()


def _measure(url: str, token: str, args: argparse.Namespace) -> dict[str, Any]:
    with open_browser() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_cookies([{"name": "gptsim_session", "value": token, "url": url}])
        context.add_init_script(WATCH)
        page = context.new_page()
        line = {"offline": False, "latency": args.latency_ms, "downloadThroughput": args.mbit_s * 125_000}
        line["uploadThroughput"] = line["downloadThroughput"]
        context.new_cdp_session(page).send("Network.emulateNetworkConditions", line)
        page.goto(f"{url}/label", wait_until="commit")
        page.wait_for_selector(".g-stage.is-current", timeout=60_000)
        page.wait_for_timeout(3000)
        rng = random.Random(0)
        for _ in range(args.presses):
            page.keyboard.press(rng.choice("120"))
            page.wait_for_timeout(args.think_s * 1000 * rng.uniform(0.5, 1.5))
        page.wait_for_timeout(args.watch_s * 1000)
        presses, drifts = page.evaluate("[benchPresses, benchDrifts]")
        return _summarise(presses, np.array(drifts), browser.version, args)


def _summarise(presses: list[float], drifts: np.ndarray[Any, Any], version: str, args: argparse.Namespace) -> dict[str, Any]:
    clock_ms, frames = drifts[:, 0] * 1000, np.rint(drifts[:, 1] * args.fps_hz)
    return {
        "press_to_next_playing_ms": _quantiles(presses),
        "drift_ms": _quantiles(clock_ms),
        "frames_apart": {"p95": float(np.percentile(frames, 95)), "share_not_the_same": float((frames > 0).mean())},
        "setup": {
            **{k: v for k, v in vars(args).items() if k != "json"},
            "chromium": version,
            "cpus": os.cpu_count(),
            "load_1min": os.getloadavg()[0],
            "machine": platform.machine(),
        },
    }


def _quantiles(values: Any) -> dict[str, float]:
    array = np.asarray(values, float)
    return {"num": len(array), **{f"p{q}": round(float(np.percentile(array, q)), 2) for q in (50, 95, 100)}}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presses", type=int, default=80)
    parser.add_argument("--think-s", type=float, default=1.0, help="mean time between presses")
    parser.add_argument("--watch-s", type=float, default=10.0, help="time to watch the last pair loop")
    parser.add_argument("--latency-ms", type=float, default=100.0)
    parser.add_argument("--mbit-s", type=float, default=10.0)
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--fps-hz", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rollouts = make_rollouts(root / "rollouts", args.presses + 10, 2, args.num_frames, args.fps_hz)
        here, there = multiprocessing.get_context("spawn").Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(rollouts, f"sqlite:///{root}/labels.db", there)
        )
        server.start()
        try:
            result = _measure(*here.recv(), args)
        finally:
            here.send("stop")
            server.join(timeout=20)
            server.kill()
    text = json.dumps(result, indent=2)
    sys.stdout.write(text + "\n")
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
