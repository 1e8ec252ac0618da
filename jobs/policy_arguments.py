"""Options of jobs.annotate for what is memorised, what the burn-in visits, and how probabilities are made."""

import argparse

from stcn_core.cleanup import STEPS, TEMPORAL, parse_steps, steps_text
from stcn_core.settings import BURN_IN_ORDERS, GATES, OfflineSettings


def add_policies(group: argparse._ArgumentGroup) -> None:
    """Adds the options to the group of those that change masks."""
    default = OfflineSettings()
    yes_or_no = argparse.BooleanOptionalAction
    group.add_argument(
        "--admission",
        choices=("every-nth", "adaptive"),
        default=default.admission,
        help="causal runs: memorise every --memory-every frames (default), or where the motion changes (EamStcn)",
    )
    group.add_argument(
        "--additional-every",
        type=int,
        metavar="N",
        default=default.additional_every,
        help="under adaptive: every N frames too, 0 for none (default %(default)d)",
    )
    group.add_argument(
        "--memory-restart",
        action=yes_or_no,
        default=default.memory_restart,
        help="causal runs: --memory-every counts anew from each prompted frame (default: no)",
    )
    group.add_argument(
        "--include-last",
        action=yes_or_no,
        default=default.include_last,
        help="causal runs: the ring is emptied when a frame is memorised; with --recent-frames 1 the frame before is "
        "always in memory, once (default: no)",
    )
    group.add_argument(
        "--confidence-gate",
        type=float,
        metavar="P",
        default=default.confidence_gate,
        help="memorise only frames on which every visible object's mean probability is at least P (default 0: all)",
    )
    group.add_argument(
        "--pin-prompts",
        action=yes_or_no,
        default=default.pin_prompts,
        help="given masks are never evicted (default: yes)",
    )
    group.add_argument(
        "--burn-in-choice",
        choices=("uniform", "motion"),
        default=default.burn_in_choice,
        help="motion: frames where the image's movement changes are likelier (default uniform)",
    )
    orders = "; ".join(f"{name}: {what}" for name, what in BURN_IN_ORDERS.items())
    group.add_argument(
        "--burn-in-order",
        choices=tuple(BURN_IN_ORDERS),
        default=default.burn_in_order,
        help=f"in which the burn-in visits its frames (default %(default)s; causal runs have none). {orders}",
    )
    gates = "; ".join(f"{name}: {what}" for name, what in GATES.items())
    group.add_argument(
        "--burn-in-gate",
        default=default.burn_in_gate,
        metavar="NAMES",
        help=f"against early mistakes that spread, joined by commas, as in two-way,relabel (default: none). {gates}",
    )
    group.add_argument(
        "--gate-overlap",
        type=float,
        metavar="J",
        default=default.gate_overlap,
        help="the overlap from which agreement and two-way take masks for the same (default %(default)g)",
    )
    group.add_argument(
        "--prompt-weight",
        type=float,
        metavar="FACTOR",
        default=default.prompt_weight,
        help="a given mask counts as much in the memory as so many predicted ones that match as well (default "
        "%(default)g; 1: no difference, as in published systems)",
    )
    group.add_argument(
        "--kernel-sigma",
        type=float,
        metavar="CELLS",
        default=default.kernel_sigma,
        help="kernelised memory: matches weighed by a Gaussian around each element's best place (default 0: off)",
    )
    group.add_argument(
        "--scales",
        default=default.scales,
        metavar="SIDES",
        help="average the probabilities of runs at these shorter sides, instead of --resolution; a side may be "
        "followed by its own kernel's sigma: 480,600:7",
    )
    group.add_argument(
        "--flip", action=yes_or_no, default=default.flip, help="average with mirrored runs, too (default: no)"
    )
    kinds = "; ".join(f"{name}: {what}" for name, (_, what) in STEPS.items() if name != TEMPORAL)
    group.add_argument(
        "--clean",
        type=_frame_steps,
        default="",
        metavar="STEPS",
        help=f"clean masks before they are written, in that order, such as close=2,largest,holes=64 (default: no). "
        f"{kinds}. Given masks are not changed",
    )


def _frame_steps(text: str) -> str:
    """The canonical text of steps on single frames."""
    try:
        steps = parse_steps(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if any(step.name == TEMPORAL for step in steps):
        raise argparse.ArgumentTypeError(
            "temporal needs the frames around, which the segments of a long video do not share: do it afterwards with "
            "python -m jobs.clean OUT --to OUT2 --clean temporal"
        )
    return steps_text(steps)
