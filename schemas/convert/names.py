"""Video ids as names of files and folders, and back: an id never becomes a path of its own making."""

import hashlib
from urllib.parse import unquote_to_bytes

# What some file system or storage forbids or reads as something else; "%" marks what was replaced.
FORBIDDEN = frozenset('/\\%<>:"|?*')
LONGEST = 200  # bytes; 255 is what file systems allow, and suffixes are added


def safe_name(video_id: str) -> str:
    """One path component for a video id: forbidden characters become %XX, all else (also non-ASCII) stays.

    Names that would be too long end in a part of the id's hash instead; these alone do not lead back to the id.
    """
    last = len(video_id) - 1
    name = "".join(
        character if _allowed(character, place in (0, last)) else _escaped(character)
        for place, character in enumerate(video_id)
    )
    if name and len(name.encode()) <= LONGEST:
        return name
    kept = name.encode()[: LONGEST - 40].decode("utf-8", "ignore").rpartition("%")
    # Cut in front of the last "%", which may have lost its digits.
    start = (kept[0] or kept[2]).rstrip(". ")
    return f"{start}~{hashlib.sha256(video_id.encode()).hexdigest()[:32]}"


def video_id_of(name: str) -> str:
    """The id whose `safe_name` is `name`; `name` itself where it is not of that making."""
    try:
        video_id = unquote_to_bytes(name.encode()).decode()
    except UnicodeDecodeError:
        return name
    return video_id if video_id and safe_name(video_id) == name else name


def _allowed(character: str, outer: bool) -> bool:
    # A leading dot hides a file, "." and ".." are folders; a dot or blank at the end is lost on some systems.
    if outer and character in ". ":
        return False
    return character not in FORBIDDEN and (character == " " or character.isprintable())


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
