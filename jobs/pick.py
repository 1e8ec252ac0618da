"""Prompt the videos of a manifest on a local web page: click, draw boxes, paint masks. Saved at once.

    python -m jobs.pick --manifest videos.jsonl
    python -m jobs.pick --manifest clips/ --to videos.jsonl

Prints an address; open it in a browser on this machine (from afar: ssh -L 8800:127.0.0.1:8800 HOST, with --port 8800).
Every edit is written to the manifest, whole and in one step; "?" on the page lists the keys. A manifest that is no
local JSONL file (CSV, Parquet, a folder or glob of videos, remote storage) is copied to --to first; where that file is
there already, work goes on with it and new videos are added. Then: python -m jobs.annotate --manifest videos.jsonl …
"""

import argparse
import os
import secrets
import signal
import sys
import threading
import webbrowser
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.exit_codes import ExitCode
from cluster.stores.source import fetch_source
from jobs.arguments import options, share
from jobs.detector_arguments import class_names
from jobs.messages import refuse, run_command, say
from jobs.views.pick.begin import begin
from jobs.views.pick.manifest_file import ManifestFile
from jobs.views.pick.open_videos import OpenVideos
from jobs.views.pick.proposals import Proposals
from jobs.views.pick.run_masks import RunMasks
from jobs.views.pick.server import PickServer, is_loopback
from jobs.views.pick.session import Session
from stcn_core.detectors import DETECTORS, make_detector
from stcn_core.detectors.detections import check_classes

EPILOG = "Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 bad arguments or manifest, or the port is taken."


def parser() -> argparse.ArgumentParser:
    """The command line. `--help` is the contract."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.pick",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--manifest", required=True, help="JSONL, CSV or Parquet, a folder or glob of videos; path or URL")
    p.add_argument("--to", metavar="JSONL", help="where rows with prompts go (default: the manifest, if it is JSONL)")
    p.add_argument("--prompt-masks", metavar="DIR", help="for a folder or glob: PNGs at DIR/<video_id>/<frame>.png")
    p.add_argument("--masks", metavar="OUT", help="show the masks of this annotate run, to be taken and corrected")
    p.add_argument("--proposals", choices=sorted(DETECTORS), help="show what this detector finds, to be clicked")
    p.add_argument("--detector-weights", metavar="PATH_OR_URL", help="its weights; nothing is downloaded by itself")
    p.add_argument("--detector-classes", type=class_names, default=(), metavar="A,B", help="only these (default: all)")
    p.add_argument("--detector-score", type=share, default=0.3, metavar="S", help="least score (default %(default)g)")
    p.add_argument("--device", default="cpu", help="of the detector (default %(default)s)")
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s: this machine only)")
    p.add_argument("--port", type=_port, default=0, help="0 (the default) takes any free one")
    p.add_argument("--open", action="store_true", help="open the page in this machine's browser")
    p.add_argument("--input-options", type=options, default={}, metavar="JSON", help="fsspec options of the videos")
    p.add_argument("--output-options", type=options, default={}, metavar="JSON", help="fsspec options of --masks")
    return p


def main(argv: list[str] | None = None) -> int:
    """Parses, serves until Ctrl-C. Returns the exit code."""
    args = parser().parse_args(argv)
    videos = OpenVideos(args.input_options)
    try:
        path = begin(args.manifest, args.to, args.input_options, args.prompt_masks, say)
        masks = RunMasks(args.masks, args.output_options) if args.masks else None
        session = Session(ManifestFile(path), videos, proposals(args), masks)
        server = PickServer(session, secrets.token_urlsafe(24), args.host, args.port)
    except (ValueError, OSError) as error:  # ManifestError and DetectorError among them
        return refuse(error, ExitCode.BAD_ARGUMENTS)
    if not is_loopback(args.host):
        say(f"--host {args.host}: others on the network can reach this, unencrypted; an SSH tunnel is safer")
    print(f"{path}: {len(session.manifest.rows())} videos. Open\n\n  {server.address}\n\nCtrl-C ends.", flush=True)
    with TemporaryDirectory(prefix="pick-") as folder:
        if args.open:
            _open_browser(server.address, Path(folder))
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            server.server_close()
            session.close()
    return int(ExitCode.DONE)


def proposals(args: argparse.Namespace) -> Proposals | None:
    """What --proposals asks for, loaded. Raises ValueError (DetectorError among them), OSError."""
    if args.proposals is None:
        return None
    if not args.detector_weights:
        raise ValueError(f"--proposals {args.proposals} needs --detector-weights PATH_OR_URL")
    with TemporaryDirectory(prefix="pick-") as scratch:
        path = fetch_source(args.detector_weights, Path(scratch), args.input_options)
        detector = make_detector(args.proposals, path, args.device)
    check_classes(args.detector_classes, detector.class_names, args.proposals)
    return Proposals(args.proposals, detector, args.detector_classes, args.detector_score)


def _open_browser(address: str, folder: Path) -> None:
    """By way of a file that only this user can read: everybody can see a browser's command line."""
    page = folder / "open.html"
    descriptor = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={address}">')
    threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port (0 to 65535)")
    return int(text)


if __name__ == "__main__":
    sys.exit(run_command(main))
