"""DAVIS 2016 and 2017, semi-supervised: the first and last frame are dropped, objects are those of the first frame."""

from jobs.protocols.protocol import Protocol, Published

README = "STCN README"
LAYOUT = "DAVIS: --truth is its folder (Annotations/480p/<video>/*.png are read), or that of the videos' PNG folders"

DAVIS_2016 = Protocol(
    "davis2016",
    "DAVIS 2016 val",
    LAYOUT + ". All labels count as one object.",
    merged=True,
    published=(
        Published("STCN", {"J&F": 91.7, "J": 90.4, "F": 93.0}, README),
        Published("STM", {"J&F": 89.3}, "STM paper"),
    ),
)
DAVIS_2017 = Protocol(
    "davis2017",
    "DAVIS 2017 val",
    LAYOUT + ".",
    first_objects=True,
    published=(
        Published("STCN", {"J&F": 85.3, "J": 82.0, "F": 88.6}, README),
        Published("EamStcn", {"J&F": 84.0}, "its README"),
        Published("STM", {"J&F": 81.8}, "STM paper"),
    ),
)
PROTOCOLS = (DAVIS_2016, DAVIS_2017)
