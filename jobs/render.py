"""Show masks: an overlay video, a contact sheet, or both.

    python -m jobs.render --masks OUT --video a.mp4 --video-id a --to overlay.mp4 --contact-sheet sheet.png

Each object keeps its colour; its id stands in it. With --truth the true outline is drawn in white. The sound of the
source is kept. For all videos of a run on one page, see python -m jobs.report.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

from cluster.exit_codes import ExitCode
from cluster.frames.image_folder import list_images
from cluster.frames.prefetch import ahead
from cluster.frames.video import FrameReader, VideoError, VideoInfo, frame_times, probe_video
from cluster.stores.source import fetch_source
from cluster.truth import doubtful
from jobs.arguments import frame_number, positive, share
from jobs.messages import refuse, run_command, say
from jobs.views.audio import AudioTrack
from jobs.views.contact_sheet import ContactSheet
from jobs.views.overlay import draw_masks
from jobs.views.place import placed
from jobs.views.resize import resized_mask
from jobs.views.truth import TruthFolder
from jobs.views.video_file import VideoFile
from schemas import read_masks
from schemas.urls import is_local, parent, public_url

DEFAULT_CELLS = 20
MOST_CELLS = 1000
SHEET_WIDTH = 1600
IMAGE_FPS = 25.0  # an image folder has no times of its own
DECODE_AHEAD = 8

Masks = dict[int, np.ndarray]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m jobs.render",
        description=__doc__,
        epilog="Exit codes: 0 drawn (a damaged video as far as it goes), 2 something cannot be read or written.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--masks", required=True, metavar="OUT", help="output folder of an annotate run, any fsspec URL")
    p.add_argument("--video", required=True, help="the video file or image folder that was annotated, path or URL")
    p.add_argument("--video-id", help="which video of OUT (default: the one that it holds)")
    p.add_argument("--to", metavar="MP4", help="write the overlay video here")
    p.add_argument("--contact-sheet", metavar="PNG", help="write a picture with a grid of frames here")
    p.add_argument("--width", type=positive, help="width of the overlay video in pixels (default: the video's)")
    p.add_argument("--columns", type=positive, default=4, help="of the contact sheet (default %(default)d)")
    p.add_argument(
        "--every",
        type=positive,
        help=f"frames between pictures of the sheet (default: about {DEFAULT_CELLS} pictures)",
    )
    p.add_argument("--start", type=frame_number, default=0, help="first frame")
    p.add_argument("--end", type=positive, help="frame to stop before")
    p.add_argument("--stride", type=positive, default=1, help="every N-th frame; give that of the annotate run")
    p.add_argument(
        "--truth", metavar="DIR", help="true masks as in jobs.evaluate, or their folder; drawn as white outlines"
    )
    p.add_argument("--opacity", type=share, default=0.4, help="of the tint, 0 to 1 (default %(default)g)")
    p.add_argument("--no-labels", action="store_true", help="do not write the object ids")
    p.add_argument("--no-audio", action="store_true", help="leave the source's sound out")
    return p


@dataclass
class Rendering:
    """One pass over a video that feeds the overlay and the sheet."""

    info: VideoInfo
    reader: FrameReader
    masks: Iterator[tuple[int, Masks]]
    seconds: Callable[[int], float]
    frames: int | None
    truth: TruthFolder | None = None
    opacity: float = 0.4
    labels: bool = True
    drawn: int = 0
    with_masks: int = 0
    _next: tuple[int, Masks] | None = field(default=None, repr=False)

    def run(self, video: VideoFile | None, sheet: ContactSheet | None, every: int, cell: tuple[int, int]) -> None:
        """Draws every frame that is needed; `cell` is the (h, w) of a picture of the sheet."""
        self._next = next(self.masks, None)
        with tqdm(total=self.frames, unit=" frames", desc="rendering", disable=not sys.stderr.isatty()) as bar:
            for number, (index, frame) in enumerate(ahead(self.reader, DECODE_AHEAD)):
                bar.update()
                in_sheet = sheet is not None and number % every == 0
                if video is None and not in_sheet:
                    continue
                masks = self._masks_of(index)
                self.with_masks += bool(masks)
                self.drawn += 1
                if video is not None:
                    video.add(self._draw(index, frame, masks), self.seconds(index))
                if in_sheet:
                    small = np.asarray(Image.fromarray(frame).resize(cell[::-1], Image.Resampling.LANCZOS))
                    sheet.add(self._draw(index, small, masks), caption(index, self.seconds(index), self.info))

    def _masks_of(self, index: int) -> Masks:
        """Masks of source frame `index`, at the video's own size. Both sides are in frame order."""
        while self._next is not None and self._next[0] < index:
            self._next = next(self.masks, None)
        if self._next is None or self._next[0] != index:
            return {}
        masks = self._next[1]
        for mask in masks.values():
            if mask.shape != (self.info.height, self.info.width):
                raise ValueError(
                    f"frame {index}: the masks are {mask.shape[1]}x{mask.shape[0]} but {self.reader.path} is "
                    f"{self.info.width}x{self.info.height}; was another video annotated under this video id?"
                )
        return masks

    def _draw(self, index: int, frame: np.ndarray, masks: Masks) -> np.ndarray:
        size = frame.shape[:2]
        truth = self.truth.masks(index, (self.info.height, self.info.width)) if self.truth else {}
        return draw_masks(
            frame,
            {key: resized_mask(mask, size) for key, mask in masks.items()},
            self.opacity,
            self.labels,
            {key: resized_mask(mask, size) for key, mask in truth.items()},
        )


def caption(index: int, seconds: float, info: VideoInfo) -> str:
    return f"frame {index}" if info.kind == "images" else f"frame {index}   {seconds:.2f} s"


def scaled(info: VideoInfo, width: int) -> tuple[int, int]:
    """(h, w) of the video at `width`, not enlarged."""
    width = min(width, info.width)
    return max(1, round(info.height * width / info.width)), width


def main(argv: list[str] | None = None) -> int:
    """Parses, calls, prints. Returns the exit code."""
    p = parser()
    args = p.parse_args(argv)
    if not args.to and not args.contact_sheet:
        p.error("give --to for an overlay video, --contact-sheet for a picture, or both")
    if args.end is not None and args.end <= args.start:
        p.error(f"--end {args.end} must be greater than --start {args.start}")
    try:
        with tempfile.TemporaryDirectory(prefix="stcn-render-") as scratch:
            return render(args, Path(scratch))
    except (VideoError, ValueError, LookupError, OSError) as error:
        # A LookupError shows its text in quotes.
        return refuse(ValueError(error.args[0]) if isinstance(error, LookupError) else error, ExitCode.BAD_ARGUMENTS)


def keep_source(video: str, target: str) -> None:
    """Raises ValueError where writing `target` would replace the source, or add a picture to its folder of images."""
    if not (is_local(video) and is_local(target)):
        same = video.rstrip("/") in (target, parent(target))
    else:
        source, made = (Path(url.split("://", 1)[-1]).resolve() for url in (video, target))
        same = source in (made, made.parent)
    if same:
        raise ValueError(f"{public_url(target)} would change the source {public_url(video)}: write to another place")


def render(args: argparse.Namespace, scratch: Path) -> int:
    for target in filter(None, (args.to, args.contact_sheet)):
        keep_source(args.video, target)
    masks = read_masks(args.masks, args.video_id)
    path = fetch_source(args.video, scratch, None)
    info = probe_video(path)
    cell = scaled(info, max(SHEET_WIDTH // args.columns, 64))
    size = scaled(info, args.width or info.width) if args.to else cell
    reader = FrameReader(path, info, size, args.start, args.end, args.stride)
    times = frame_times(path)

    def seconds(index: int) -> float:
        if times is None:
            return index / IMAGE_FPS
        # A damaged file can decode to more frames than it has times: go on at its average rate.
        past = max(index - len(times) + 1, 0)
        return float(times.time_s[min(index, len(times) - 1)]) + past / (info.fps or IMAGE_FPS)

    known = info.frames_declared if times is None else len(times)
    last = known if args.end is None else min(args.end, known)
    count = max(-(-(last - args.start) // args.stride), 0)
    every = args.every or max(1, round(count / DEFAULT_CELLS))
    if args.contact_sheet and count / every > MOST_CELLS:
        raise ValueError(
            f"--every {every} makes {-(-count // every)} pictures, over {MOST_CELLS}; give a larger --every"
        )
    truth = _truth(args, path, info, known)
    rendering = Rendering(info, reader, masks, seconds, count or None, truth, args.opacity, not args.no_labels)
    title = args.video_id or Path(args.video.rstrip("/")).name
    sheet = ContactSheet(args.columns, title) if args.contact_sheet else None
    if args.to:
        audio = None if args.no_audio or times is None else _audio(path, args, known, seconds)
        with (
            placed(args.to, ".mp4") as target,
            VideoFile(target, size, (info.fps or IMAGE_FPS) / args.stride, audio) as video,
        ):
            rendering.run(video, sheet, every, cell)
        if audio is not None:
            audio.close()
            if audio.error:
                say(f"the sound ends early: {audio.error}")
    else:
        rendering.run(None, sheet, every, cell)
    if sheet is not None:
        with placed(args.contact_sheet, ".png") as target:
            sheet.image().save(target, format="PNG")
    if reader.error:
        print(f"the video is damaged: {reader.error}", file=sys.stderr)
    for made in filter(None, (args.to, args.contact_sheet)):
        print(f"wrote {made}")
    print(f"{rendering.drawn} frames drawn, {rendering.with_masks} with masks")
    return ExitCode.DONE


def _truth(args: argparse.Namespace, path: Path, info: VideoInfo, frames: int | None) -> TruthFolder | None:
    """The true masks, where they are asked for; it says so where their frames are in doubt."""
    if not args.truth:
        return None
    video_id = args.video_id or path.stem
    truth = TruthFolder(args.truth, video_id, frames, list_images(path) if info.kind == "images" else None)
    if truth.doubt:
        say(doubtful({video_id: truth.doubt}))
    return truth


def _audio(path: Path, args: argparse.Namespace, frames: int, seconds: Callable[[int], float]) -> AudioTrack | None:
    """The source's sound over the frames that are drawn; None where it has none."""
    end = None if args.end is None or args.end >= frames else seconds(args.end)
    try:
        return AudioTrack(path, seconds(args.start), end)
    except LookupError:
        return None
    except (OSError, av.FFmpegError) as error:
        say(f"the sound is left out: {error}")
        return None


if __name__ == "__main__":
    sys.exit(run_command(main))
