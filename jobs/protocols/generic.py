"""Any folder of true masks, counted as vos-benchmark counts (MOSE, LVOS and converted sets are judged so)."""

from jobs.protocols.protocol import Protocol

PROTOCOLS = (
    Protocol(
        "generic",
        "folder",
        "--truth is a folder of <video>/*.png, in any of the layouts above. An object counts from the first frame "
        "on that truth or prediction shows it on.",
        counted="seen",
    ),
)
