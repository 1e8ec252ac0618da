"""Segment units annotated as an actor annotates them: real decoder child, real shard, real publish."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cluster.finalise import shard_name
from cluster.frames.decoder import Decoder
from cluster.heartbeat import Heartbeat
from cluster.open_video import BurnInFacts, OpenVideo
from cluster.plan import SEGMENT, make_plan, part_id
from cluster.segmenter import FrameMasks, Segmenters, VideoFacts
from cluster.stores.source import stat_source
from cluster.stores.storage import Storage
from cluster.unit import UnitDone, annotate_unit
from cluster.workbench import Workbench, offline_settings
from jobs.measures.bank_contents import BankContents
from jobs.measures.clip import Clip
from jobs.measures.ours import fill
from schemas.manifest import VideoRow
from schemas.run_config import RunConfig

RAM_BYTES = 1 << 30


class UnitBench:
    """A workbench with an open video whose bank is full, as an actor has it between two segments, so that the first
    frames of its final pass can be annotated again and again. contents: of the bank; None where the segmenters need
    none."""

    def __init__(
        self,
        folder: Path,
        segmenters: Segmenters,
        config: RunConfig,
        clip: Clip,
        objects: int,
        contents: BankContents | None,
        *,
        device: str,
        threads: int,
    ) -> None:
        scratch, output = folder / "scratch", folder / "output"
        scratch.mkdir(parents=True)
        segmenters.load(config, device.partition(":")[0], threads, scratch, {})
        self.output = output
        self.bench = Workbench(
            segmenters=segmenters,
            decoder=Decoder(),
            config=config,
            storage=Storage(str(output)),
            scratch=scratch,
            actor="benchmark",
            ram_bytes=RAM_BYTES,
        )
        row = VideoRow(1, str(clip.path), "benchmark", clip.prompts(objects))
        self._whole = make_plan([row], {str(clip.path): stat_source(str(clip.path))}, {}, config)[0]
        self._open(clip, contents)

    def annotate(self, frames: int) -> UnitDone:
        """The first `frames` frames, from source to published shard, which is then removed. Video and
        bank are open already, as they are for an actor on a video's next segment."""
        key = self._whole.video_key
        unit = replace(self._whole, unit_id=part_id(key, SEGMENT, 0, frames), kind=SEGMENT, last=frames)
        done = annotate_unit(unit, self.bench, Heartbeat())
        if not isinstance(done, UnitDone) or done.frames != frames:
            raise RuntimeError(f"the unit to be measured did not come out whole: {done}")
        (self.output / shard_name(unit.unit_id)).unlink()
        return done

    def close(self) -> None:
        """Ends the decoder's process."""
        self.bench.close()

    def _open(self, clip: Clip, contents: BankContents | None) -> None:
        video = self.bench.opened = OpenVideo(self._whole, self.bench, Heartbeat())
        settings = offline_settings(self.bench.config)
        facts = VideoFacts(video.source, video.size, video.row.video_id, settings.memory_frames)
        video.segmenter = self.bench.segmenters.begin(settings, video.prompts, facts)
        video.segmenter.memorise_prompts(clip.picture)
        if contents is not None:
            fill(video.segmenter.memory, contents)
        video.facts = BurnInFacts(clip.frames, clip.frames, False, (), settings.memory_frames)


class DummyWriter:
    """Segmenters whose masks are made and then left out: nothing is written."""

    def __init__(self, segmenters: Segmenters) -> None:
        self._segmenters = segmenters

    def begin(self, *args: object, **named: object) -> "WithoutMasks":
        return WithoutMasks(self._segmenters.begin(*args, **named))

    def __getattr__(self, name: str) -> object:
        return getattr(self._segmenters, name)


class WithoutMasks:
    """A segmenter whose final pass yields no masks."""

    def __init__(self, segmenter: object) -> None:
        self._segmenter = segmenter

    def final_pass(self, *args: object) -> Iterator[FrameMasks]:
        for frame, _ in self._segmenter.final_pass(*args):
            yield frame, []

    def __getattr__(self, name: str) -> object:
        return getattr(self._segmenter, name)
