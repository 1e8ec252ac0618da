"""What Prometheus sees of a run: counters and gauges of the driver, through Ray's own exporter.

Ray exports a counter `stcn_frames` as `ray_stcn_frames_total`, a gauge under its own name with `ray_` before it, each
with a label for the process that recorded them: a dashboard sums over these. Ray 2.60 drops the gauges of a driver that
has ended within half a minute; its counters stay. Nothing here names a video: every new value of a tag is a time series
of its own for good.
"""

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

PREFIX = "stcn_"
COUNTERS = {
    "frames": "Frames annotated by this driver",
    "units_done": "Units finished by this driver",
    "failures": "Failed attempts at units, by error_class",
}
GAUGES = {
    "units_waiting": "Units that no actor has yet",
    "actors_busy": "Actors with a unit",
    "actors_starting": "Actors that are asked for and not ready",
    "device_busy_share": "Share of the ready actors' time in which their device computes, 0 to 1",
}
TAGS = {"failures": ("error_class",)}


class RunMetrics:
    """The driver's metrics. `update` as often as you like: it takes totals and gives Prometheus the differences.

    Without a running Ray, before `ray.init` or after `ray.shutdown`, what is recorded is lost and nothing is raised:
    make one for each Ray session.
    """

    def __init__(self) -> None:
        self._counters = {
            name: Counter(PREFIX + name, description=text, tag_keys=TAGS.get(name, ()))
            for name, text in COUNTERS.items()
        }
        self._gauges = {name: Gauge(PREFIX + name, description=text) for name, text in GAUGES.items()}
        self._counted: dict[tuple[str, str | None], int] = {}

    def update(
        self,
        *,
        frames: int,
        units_done: int,
        failures: Mapping[str, int],
        units_waiting: int,
        actors_busy: int,
        actors_starting: int,
        device_busy_share: float | None = None,
    ) -> None:
        """The run's totals so far and its state now. failures: error_class -> attempts. None = not known, left out.

        A total that has gone down (the frames of an actor that died) counts again once it passes its highest value.
        """
        self._count("frames", frames)
        self._count("units_done", units_done)
        for error_class, attempts in failures.items():
            self._count("failures", attempts, error_class)
        gauges = {
            "units_waiting": units_waiting,
            "actors_busy": actors_busy,
            "actors_starting": actors_starting,
            "device_busy_share": device_busy_share,
        }
        for name, value in gauges.items():
            if value is not None:
                self._gauges[name].set(value)

    def _count(self, name: str, total: int, error_class: str | None = None) -> None:
        counted = self._counted.get((name, error_class), 0)
        if total > counted:
            self._counters[name].inc(total - counted, tags={} if error_class is None else {"error_class": error_class})
            self._counted[name, error_class] = total


def exported_names() -> set[str]:
    """The metrics as a dashboard names them."""
    return {f"ray_{PREFIX}{name}_total" for name in COUNTERS} | {f"ray_{PREFIX}{name}" for name in GAUGES}
