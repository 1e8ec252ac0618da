"""What a person can do about a failed video, by the class of its error."""

RETRY = "--retry-failed runs it again"
TAKE_OUT = "or take it out of the manifest and give --forget-missing"
REMEDIES = {
    "missing": f"put the file or the mask back, or correct the manifest; {RETRY}",
    "not-a-video": f"replace the file by a video ({RETRY}), {TAKE_OUT}",
    "no-video-stream": f"the file holds only sound or data: replace it ({RETRY}), {TAKE_OUT}",
    "zero-frames": f"the file or folder holds no frames: copy it again from where it came; {RETRY}",
    "unsupported": f"convert the video (ffmpeg -i IN -c:v libx264 OUT.mp4); {RETRY}",
    "decode": f"copy the file again or re-encode it (ffmpeg -i IN -c:v libx264 OUT.mp4); {RETRY}",
    "decoder-crash": f"the file kills the decoder: re-encode it (ffmpeg -i IN -c:v libx264 OUT.mp4); {RETRY}",
    "decoder-stall": f"the decoder hangs in the file, or storage is slow: re-encode it; {RETRY}",
    "prompt": f"correct the prompt in the manifest (frame in range, mask of the video's size); {RETRY}",
    "nothing-detected": "look at the frame; other frames or classes, a lower min_score or --detector-score, or a mask "
    f"or box instead, each make it new work; {RETRY}",
    "out-of-memory": f"give the actors more memory, or fewer per machine (--actors, --ram-mib); {RETRY}",
    "device-out-of-memory": f"lower --memory-frames or --resolution (a new --output), or a larger GPU; {RETRY}",
    "deadline": f"it made no progress in time: look at its machine and the file; {RETRY}",
    "permission": f"give the job's credentials access to the file; {RETRY}",
    "storage": f"storage failed while it was worked on: check endpoint and network; {RETRY}",
    "device": f"the GPU failed: check its driver and health (nvidia-smi); {RETRY}",
    "not-a-number": "the network gave no numbers: another --precision (a new --output) where it overflows in fp16, or "
    f"another checkpoint; {RETRY}",
    "worker": f"a machine could not work (scratch folder, decoder process): look at its disk and limits; {RETRY}",
    "gone": "it is not, or not any more, what it was when the run was planned: where it was replaced, run the same "
    f"command again; otherwise put it back, on storage that all nodes see; {RETRY}",
    "bank": f"its saved bank was lost or damaged: {RETRY}",
    "actor-died": f"its process was killed again and again: look at the Ray logs of that machine; {RETRY}",
    "node-lost": f"its machines went away again and again: {RETRY} on machines that stay",
    "internal": f"a defect of this program: report it with the message in the failures table; {RETRY}",
}


def remedy(error_class: str) -> str:
    """One line. Classes that are not known point to the message."""
    return REMEDIES.get(error_class, f"read the message in the failures table; {RETRY}")
