"""A long video's saved bank on storage: what its segments start from, on whichever actor."""

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path

from cluster.failure import BankError
from cluster.finalise import bank_names
from cluster.found_objects import FOUND
from cluster.open_video import BurnInFacts, OpenVideo
from cluster.plan import BURN_IN, Unit, part_id
from cluster.stores.storage import Published
from cluster.workbench import Workbench

COPY_BYTES = 16 << 20


def publish_bank(unit_id: str, video: OpenVideo, bench: Workbench) -> Published:
    """The bank first, then the facts about it: once they are there, so is the bank."""
    bank, facts = bank_names(unit_id)
    path = video.folder / "bank.safetensors"
    video.segmenter.save_bank(path)
    published = bench.storage.publish(bank, path)
    path.unlink()
    record = {
        **asdict(video.facts),
        "source_sha256": video.source_sha256(),
        "bytes": published.size,
        "sha256": published.sha256,
    }
    if any(prompt.detects for prompt in video.row.prompts):
        record[FOUND] = [one.to_record() for one in video.found]
    bench.storage.publish(facts, json.dumps(record, indent=2).encode())
    return published


def fetch_bank(unit: Unit, video: OpenVideo, bench: Workbench) -> Path:
    """A local copy of the video's bank; makes the open video what it was after its burn-in.

    Its bytes are those that were saved; what is in them is checked by who loads it. Raises BankError, OSError.
    """
    bank, facts = bank_names(part_id(unit.video_key, BURN_IN))
    path = video.folder / "bank.safetensors"
    try:
        record = json.loads(bench.storage.read(facts))
        digest = hashlib.sha256()
        with bench.storage.open_input(bank) as source, path.open("wb") as target:
            while piece := source.read(COPY_BYTES):
                target.write(piece)
                digest.update(piece)
                video.still_alive()
    except FileNotFoundError as error:
        raise BankError(f"the saved bank of {unit.row.video_id} is gone: {error}") from error
    except ValueError as error:
        raise BankError(f"{facts} is damaged: {error}") from error
    if path.stat().st_size != record["bytes"]:
        raise BankError(f"{bank}: {path.stat().st_size} bytes are there of {record['bytes']}")
    if digest.hexdigest() != record["sha256"]:
        raise BankError(f"{bank} is damaged: its SHA-256 is not the one that was recorded when it was saved")
    video.sha256 = record["source_sha256"]
    facts = {field.name: record[field.name] for field in fields(BurnInFacts)}
    facts["left_out"] = tuple(facts["left_out"])
    facts["first_pictures"] = {int(frame): digest for frame, digest in facts["first_pictures"].items()}
    video.facts = BurnInFacts(**facts)
    video.leave_out(video.facts.left_out)
    return path
