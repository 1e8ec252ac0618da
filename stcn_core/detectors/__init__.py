"""Detectors: picture -> masks, boxes, classes, scores. `make_detector(name, weights)` makes one."""

from stcn_core.detectors.detections import Detections, Detector, DetectorError
from stcn_core.detectors.factory import DETECTORS, make_detector

__all__ = ["DETECTORS", "Detections", "Detector", "DetectorError", "make_detector"]
