"""A detector by name. Importing this imports no torch; nothing is ever downloaded here."""

import importlib
from pathlib import Path

from stcn_core.detectors.detections import Detector, DetectorError

# name -> (module, class). Every class takes (weights, device) and checks the weights before anything else.
DETECTORS = {
    "mask-rcnn": ("stcn_core.detectors.mask_rcnn", "MaskRcnn"),
    "mask-rcnn-v2": ("stcn_core.detectors.mask_rcnn", "MaskRcnnV2"),
    "pointrend": ("stcn_core.detectors.pointrend", "PointRend"),
    "lost": ("stcn_core.detectors.lost_detector", "Lost"),
    "lost-crf": ("stcn_core.detectors.lost_detector", "LostCrf"),
}


def make_detector(name: str, weights: Path | str, device: str = "cpu") -> Detector:
    """The detector `name` with the weights of a local file.

    Raises KeyError for another name, FileNotFoundError, and DetectorError where the file holds other weights.
    """
    if name not in DETECTORS:
        raise KeyError(f"no detector is called {name!r}: there are {', '.join(DETECTORS)}")
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"detector weights {path} do not exist: give a file that holds weights of {name}")
    module, kind = DETECTORS[name]
    made = getattr(importlib.import_module(module), kind)
    try:
        return made(path, device)
    except DetectorError:
        raise
    except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        # Shapes and names are looked at before all of them are known to fit.
        raise DetectorError(f"{path} holds no weights of {name}: its tensors do not fit ({error})") from error
