"""Known systems as bundles of settings: --preset NAME sets them, and what is given beside it overrides.

What a preset sets is recorded like any setting; the preset's name is not.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """settings: names of jobs.annotate's options (with _) -> values; about: one line for --help."""

    about: str
    settings: Mapping[str, Any]


# burn_in_order is of no effect there: so it stays what earlier versions recorded.
CAUSAL = {
    "burn_in_passes": 0,
    "burn_in_order": "priority",
    "memory_policy": "unbounded",
    "recent_frames": 0,
    "prompt_weight": 1.0,
    "resolution": 480,
}
PRESETS: dict[str, Preset] = {
    "stcn": Preset(
        "STCN: in order, nothing is forgotten",
        {**CAUSAL, "memory_every": 5, "memory_restart": True, "top_k": 20},
    ),
    "stm": Preset(
        "STM's schedule and matching: first, previous and every fifth frame; all of the memory by dot product",
        {
            **CAUSAL,
            "memory_every": 5,
            "recent_frames": 1,
            "include_last": True,
            "affinity": "dot",
            "top_k": 0,
        },
    ),
    "eamstcn": Preset(
        "EamStcn: STCN that memorises where the motion changes",
        {**CAUSAL, "admission": "adaptive", "additional_every": 25, "top_k": 20},
    ),
    "stcnbuf": Preset(
        "stcnbuf's defaults, one pass in order; with --burn-in-passes P it is its --passes P+1 --permute-frames",
        {
            "resolution": 320,
            "burn_in_passes": 0,
            "burn_in_frames": 0,
            "burn_in_order": "stcnbuf",
            "memory_policy": "random-token",
            "memory_frames": 128,
            "memory_every": 1,
            "recent_frames": 2,
            "prompt_weight": 1.0,
            "group_frames": 1,
            "top_k": 20,
            "exclude_own": False,
            "pin_prompts": False,
        },
    ),
}


class PresetParser(argparse.ArgumentParser):
    """A parser whose --preset changes the defaults of the other options."""

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        # Abbreviated like any option: --pres is --preset to the other parser, too.
        early = argparse.ArgumentParser(add_help=False)
        early.add_argument("--preset", choices=PRESETS)
        with_preset = early.parse_known_args(args)[0].preset
        self.set_defaults(**(PRESETS[with_preset].settings if with_preset else {}))
        return super().parse_known_args(args, namespace)


def preset_lines() -> str:
    """What each preset sets, for --help."""
    lines = ["presets (--preset NAME) and what they set; options given beside one override it:"]
    for name, preset in PRESETS.items():
        lines.append(f"  {name}: {preset.about}")
        row = "     "
        for option in (option_text(key, value) for key, value in preset.settings.items()):
            if len(row) + len(option) > 116:
                lines.append(row)
                row = "     "
            row += f" {option}"
        lines.append(row)
    return "\n".join(lines)


def option_text(name: str, value: Any) -> str:
    """A setting as it is typed."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return option if value else f"--no-{name.replace('_', '-')}"
    return f"{option} {'all' if value == 0 and name in ('top_k', 'burn_in_frames') else value}"
