"""A long chaos run: many random kills of actors, nodes and drivers, then the rows are compared with an undisturbed run.

    python tests/chaos_run.py --kills 200 --seed 0

Prints what it did and `sound` or what is wrong; exit code 0 or 1. Takes a few seconds a kill on two cores.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from made_chaos import CURSES, Monkey, Nodes, shards, start_driver, write_chaos_corpus
from made_corpus import ROOT, read_rows, rows_hash, table_rows


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=200)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--short", type=int, default=600, help="short videos")
    p.add_argument("--long-frames", type=int, default=6000, help="frames of the one long video")
    p.add_argument("--pause", type=float, default=2.0, help="mean seconds between two kills of an actor")
    args = p.parse_args()
    # A cluster made inside a process has no token, and its workers find modules where its raylets do.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        good, everything = write_chaos_corpus(folder, args.short, args.long_frames)
        nodes = Nodes()
        try:
            return disturb(args, folder, good, everything, nodes)
        finally:
            nodes.close()


def disturb(args: argparse.Namespace, folder: Path, good: Path, everything: Path, nodes: Nodes) -> int:
    quiet = start_driver(good, str(folder / "quiet"), nodes, folder / "quiet-marks")
    began = time.monotonic()
    assert quiet.wait() == 0, (folder / "quiet-marks.log").read_text()
    print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    expected = rows_hash(read_rows(folder / "quiet"))
    draw, began = random.Random(args.seed), time.monotonic()
    output, drivers, lost_nodes, code = folder / "out", 0, 0, None
    more = ("--curses", "--stall-seconds", "12")
    with Monkey(args.seed, args.pause, args.kills, lambda: shards(output)) as monkey:
        while code is None:
            driver = start_driver(everything, str(output), nodes, folder / "marks", *more)
            drivers += 1
            until = time.monotonic() + draw.uniform(20, 60)
            while driver.poll() is None and (time.monotonic() < until or monkey.killed >= args.kills):
                time.sleep(0.2)
            if driver.poll() is not None:
                code = driver.poll()
            elif draw.random() < 0.5:
                nodes.lose_one()
                lost_nodes += 1
                os.kill(driver.pid, signal.SIGKILL)
                driver.wait()
            else:
                os.kill(driver.pid, signal.SIGKILL)
                driver.wait()
    print(
        f"seed {args.seed}: {monkey.killed} actors killed, {lost_nodes} nodes lost, {drivers - 1} drivers killed, "
        f"{time.monotonic() - began:.0f} s, exit code {code}",
        flush=True,
    )
    rows = read_rows(output)
    kept = [row for row in rows if not row["video_id"].startswith(tuple(CURSES))]
    failed = {row["video_id"]: row["error_class"] for row in table_rows(output, "failures") if row["terminal"]}
    wrong = []
    if len({(row["video_id"], row["object_id"], row["frame_index"]) for row in rows}) != len(rows):
        wrong.append("rows are doubled")
    if rows_hash(kept) != expected:
        wrong.append(f"{len(kept)} rows differ from the undisturbed run's")
    expected_failures = {f"{name}-1": kind for name, kind in CURSES.items()} | {"text": "not-a-video"}
    # A video that hangs stays at one place long enough for three random kills to meet there.
    if failed.get("gil-1") == "actor-died":
        expected_failures["gil-1"] = "actor-died"
    if failed != expected_failures:
        wrong.append(f"failures are {failed}, expected {expected_failures}")
        wrong += history(output, failed.keys() - expected_failures.keys())
    if code != 3:
        wrong.append((folder / "marks.log").read_text()[-3000:])
    print("sound" if not wrong else "\n".join(wrong))
    return 1 if wrong else 0


def history(output: Path, videos: set[str]) -> list[str]:
    """What happened to these videos, a line per failed attempt."""
    told = ("video_id", "unit_id", "attempt", "terminal", "error_class", "stage", "cause", "frames_done", "message")
    rows = [row for row in table_rows(output, "failures") if row["video_id"] in videos]
    rows.sort(key=lambda row: (row["video_id"], row["unit_id"], row["attempt"]))
    return [" ".join(str(row.get(name))[:80] for name in told) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
