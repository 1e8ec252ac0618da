"""The images of a video that is a folder of images: by their names its frames are known outside of this program."""

from collections.abc import Mapping
from typing import Any

from cluster.frames.image_folder import SUFFIXES, natural_key
from cluster.stores.remote import connect, entry_name, is_file, list_folder
from cluster.stores.storage_errors import explained
from schemas.videos import IMPORTED


def is_image_folder(video: Mapping[str, Any]) -> bool:
    """Whether a row of `videos` is that of a folder of images: these have no frame rate, and for a codec the suffix of
    their images. A video file that says no frame rate and was imported without it may look the same."""
    codec = video.get("codec")
    return video.get("fps") is None and (codec is None or f".{codec}" in SUFFIXES)


def list_image_names(url: str, options: Mapping[str, Any] | None = None) -> list[str] | None:
    """Names of the images in a folder in the order of frames; None where it is a file. Raises OSError, ValueError."""
    with explained(url, "listed"):
        fs, path = connect(url, options)
        if is_file(fs, path):
            return None
        names = [entry_name(entry) for entry in list_folder(fs, path) if entry["type"] != "directory"]
    return sorted((name for name in names if name.lower().endswith(SUFFIXES)), key=natural_key)


def source_images(
    video: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> tuple[list[str] | None, str | None]:
    """(names of the images of a video in order, why they are not to be had); (None, None) where it is no folder of
    images. video: its row of `videos`."""
    url = video.get("video")
    if not url or not is_image_folder(video):
        return None, None
    # An import has written down all names that do not follow from the index, and may be of anything.
    imported = video.get("checkpoint_sha256") == IMPORTED
    try:
        names = list_image_names(url, options)
    except (OSError, ValueError) as error:
        return None, None if imported else str(error).rstrip(".")
    if names is None:
        return None, None  # a video that says no frame rate
    count = video.get("frames_declared") or video.get("frames_decoded")
    if names and len(names) == count:
        return names, None
    return None, None if imported else f"{url} holds {len(names)} images, and {count} when it was annotated"
