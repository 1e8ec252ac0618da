"""The source's sound beside a rendered video: copied where mp4 takes it as it is, otherwise coded as AAC."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

# What mp4 holds and players play. Raw samples, Vorbis and the rest are coded again.
COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")


class AudioTrack:
    """The first sound stream of `path` from `start` to `end`, in seconds after the source's first displayed frame.

    `attach` it to the output before anything is written, then `upto` as the pictures go on, then `finish`. Sound that
    cannot be read ends quietly: `.error` says why. Raises LookupError where there is no sound at all, OSError and
    av.FFmpegError where the file does not open.
    """

    def __init__(self, path: Path, start: float = 0.0, end: float | None = None):
        self.error: str | None = None
        self._source = av.open(str(path))
        try:
            if not self._source.streams.audio:
                raise LookupError(f"{path.name} has no sound")
            self._stream = self._source.streams.audio[0]
            self._origin = self._first_picture()
            self._start, self._end = start, float("inf") if end is None else end
        except BaseException:
            self._source.close()
            raise
        self._waiting: tuple[float, av.Packet] | None = None

    def attach(self, output: av.container.OutputContainer) -> None:
        """Adds the stream to the output, which will get the sound."""
        self._output = output
        self._encoder = self._resampler = None
        if self._stream.codec_context.name in COPIED:
            self._target = output.add_stream_from_template(self._stream)
        else:
            rate = self._stream.codec_context.sample_rate
            layout = "mono" if self._stream.codec_context.channels == 1 else "stereo"
            self._target = self._encoder = output.add_stream("aac", rate=rate, layout=layout)
            self._resampler = av.AudioResampler("fltp", layout, rate)
        self._packets = self._timed()
        self._waiting = self._next()

    def upto(self, seconds: float) -> None:
        """Writes the sound of all that begins before this time."""
        while self._waiting is not None and self._waiting[0] <= seconds:
            self._write(self._waiting[1])
            self._waiting = self._next()

    def finish(self) -> None:
        """Writes the rest up to the end."""
        self.upto(self._end)
        if self._encoder is not None and self.error is None:
            self._output.mux(self._encoder.encode())

    def close(self) -> None:
        """Closes the source."""
        self._source.close()

    def _first_picture(self) -> Fraction:
        """When the first frame is shown, in the container's own time."""
        video = self._source.streams.video[0]
        return (video.start_time or 0) * video.time_base

    def _next(self) -> tuple[float, av.Packet] | None:
        try:
            return next(self._packets, None)
        except (av.FFmpegError, OSError, ValueError) as error:
            self.error = str(error)
            return None

    def _timed(self) -> Iterator[tuple[float, av.Packet]]:
        base = self._stream.time_base
        for packet in self._source.demux(self._stream):
            if packet.pts is None or packet.dts is None:
                continue
            seconds = float(packet.pts * base - self._origin)
            if seconds >= self._end:
                return
            if seconds >= self._start:
                yield seconds, packet

    def _write(self, packet: av.Packet) -> None:
        shift = round(self._origin / self._stream.time_base)
        try:
            if self._encoder is None:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._target
                self._output.mux(packet)
                return
            for frame in packet.decode():
                frame.pts -= shift
                for part in self._resampler.resample(frame):
                    self._output.mux(self._encoder.encode(part))
        except (av.FFmpegError, ValueError) as error:
            self.error, self._waiting = str(error), None
            self._packets = iter(())
