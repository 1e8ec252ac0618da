"""What an actor holds for all its units: segmenters, decoder, settings, storage, scratch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.detector_weights import Detectors
from cluster.frames.decoder import Decoder
from cluster.segmenter import Segmenters
from cluster.stores.storage import Storage
from schemas.run_config import RunConfig
from stcn_core.settings import OfflineSettings

if TYPE_CHECKING:
    from cluster.open_video import OpenVideo


@dataclass
class Workbench:
    """One actor's tools. ram_bytes is the cap for burn-in frames in RAM; opened the video it works on."""

    segmenters: Segmenters
    decoder: Decoder
    config: RunConfig
    storage: Storage
    scratch: Path
    actor: str
    ram_bytes: int
    input_options: dict = field(default_factory=dict)
    opened: "OpenVideo | None" = None
    detectors: Detectors | None = None

    def put_away(self) -> None:
        """Closes the open video, if any."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def close(self) -> None:
        """Ends the decoder's process and closes the open video."""
        self.put_away()
        self.decoder.close()


def offline_settings(config: RunConfig) -> OfflineSettings:
    """The part of the run's settings that the algorithm takes. Raises ValueError on values out of range."""
    names = OfflineSettings.__dataclass_fields__
    return OfflineSettings(**{name: getattr(config, name) for name in names if hasattr(config, name)})
