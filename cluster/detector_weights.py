"""Detectors' weights: looked at by the driver before work starts, loaded by an actor when the first video asks."""

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.failure import WorkerError
from cluster.stores.source import fetch_source
from schemas.urls import public_url
from stcn_core.detectors import Detector, DetectorError, make_detector
from stcn_core.detectors.detections import check_classes


@dataclass(frozen=True)
class DetectorWeights:
    """Where a detector's weights are and which they are (hex SHA-256 of the file)."""

    url: str
    sha256: str


def weights_of(
    needed: Mapping[str, Collection[str]], urls: Mapping[str, str], options: Mapping, check: bool = True
) -> dict[str, DetectorWeights]:
    """The weights of the needed detectors (name -> classes that are asked for). urls: name -> URL.

    check: they are loaded once, so that a wrong file or an unknown class stops the run here and fails no video.
    Raises ValueError, DetectorError, OSError.
    """
    from stcn_core.checkpoint import file_sha256

    found = {}
    for name, classes in sorted(needed.items()):
        if name not in urls:
            raise ValueError(
                f"the detector {name} is asked for, but its weights are not given: "
                f"--detector-weights {name}=PATH_OR_URL (nothing is downloaded by itself)"
            )
        with tempfile.TemporaryDirectory(prefix="stcn-detector-") as scratch:
            path = _fetch(urls[name], Path(scratch), options)
            try:
                if check:
                    check_classes(sorted(classes), make_detector(name, path).class_names, name)
            except DetectorError as error:
                text = str(error).replace(str(path), public_url(urls[name]))
                raise DetectorError(f"--detector-weights of {name}: {text}") from error
            found[name] = DetectorWeights(urls[name], file_sha256(path))
    return found


class Detectors:
    """One actor's detectors: each is loaded once, and only if a video needs it."""

    def __init__(self, weights: Mapping[str, DetectorWeights], device: str, scratch: Path, options: Mapping) -> None:
        self._weights, self._device, self._scratch, self._options = dict(weights), device, scratch, dict(options)
        self._loaded: dict[str, Detector] = {}

    def get(self, name: str) -> Detector:
        """Raises WorkerError: the driver has loaded the same weights, so what fails here is this machine."""
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Detector:
        from stcn_core.checkpoint import file_sha256

        if name not in self._weights:
            raise WorkerError(f"no weights of the detector {name} were given to this actor")
        weights = self._weights[name]
        shown = public_url(weights.url)
        try:
            with tempfile.TemporaryDirectory(prefix="detector-", dir=self._scratch) as scratch:
                path = _fetch(weights.url, Path(scratch), self._options)
                sha256 = file_sha256(path)
                if sha256 != weights.sha256:
                    raise WorkerError(
                        f"weights of {name}: {shown} has SHA-256 {sha256[:12]} here, {weights.sha256[:12]} at the "
                        "driver: give a URL that all nodes read alike"
                    )
                return make_detector(name, path, self._device)
        except (OSError, DetectorError, ImportError) as error:
            raise WorkerError(f"weights of {name} cannot be loaded from {shown} here: {error}") from error


def _fetch(url: str, scratch: Path, options: Mapping) -> Path:
    path = fetch_source(url, scratch, dict(options))
    if not path.exists():
        raise FileNotFoundError(f"detector weights {public_url(url)} do not exist")
    if not path.is_file():
        raise OSError(f"detector weights {public_url(url)} are a folder: give the file")
    return path
