"""The figures as a table, as JSON and as a dated Markdown report."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from jobs.measures.figure import Figure

VALUES = {"s/frame": "{:#.3g}", "frames/s": "{:.2f}", "x": "{:.2f}", "share": "{:.2f}", "GFLOP/s": "{:.0f}"}
HEAD = ("", "value", "unit", "median", "spread", "rounds", "note")


@dataclass
class Report:
    """Figures in the order in which they were taken, and what was around them. loads: time and load average before
    and after each section."""

    command: str
    machine: dict[str, object]
    settings: dict[str, object]
    figures: list[Figure] = field(default_factory=list)
    loads: list[dict[str, object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """All of it as one JSON object."""
        record = {
            "command": self.command,
            "machine": self.machine,
            "settings": self.settings,
            "notes": self.notes,
            "loads": self.loads,
            "figures": [figure.to_json() for figure in self.figures],
        }
        return json.dumps(record, indent=2, default=str)

    def to_markdown(self) -> str:
        """Hardware, versions, command, date, load, results."""
        lines = [f"# Benchmark, {self.loads[0]['time'][:10]}, {self.machine['device']}", "", f"    {self.command}", ""]
        lines += [f"- {note}" for note in self.notes] + [""] * bool(self.notes)
        lines += _markdown_table(("machine", ""), self.machine.items())
        lines += _markdown_table(("setting", ""), self.settings.items())
        lines += _markdown_table(("load", "average of 1, 5, 15 minutes"), _load_rows(self.loads))
        lines += ["Values are those of the best round. Spread is (longest - shortest) / median over the rounds. The"]
        lines += ["rounds of one section are interleaved: every alternative once per round.", ""]
        for (section, case), members in groupby(self.figures, lambda figure: (figure.section, figure.case)):
            lines += [f"## {section}: {case}", ""]
            lines += _markdown_table(HEAD, [cells(figure) for figure in members])
        return "\n".join(lines).rstrip() + "\n"


def cells(figure: Figure) -> tuple[str, ...]:
    """A figure as the texts of a table's row."""
    shown = VALUES.get(figure.unit, "{:.1f}")

    def text(value: float | None, how: str) -> str:
        return "" if value is None else how.format(value)

    spread = "" if figure.spread is None else f"{100 * figure.spread:.0f} %"
    return (
        figure.name,
        shown.format(figure.value),
        figure.unit,
        text(figure.median, shown),
        spread,
        text(figure.rounds, "{}"),
        figure.note,
    )


def table(figures: Iterable[Figure]) -> str:
    """Figures of one or several sections for a terminal."""
    lines = []
    for (section, case), members in groupby(figures, lambda figure: (figure.section, figure.case)):
        rows = [(f"{section}: {case}", *HEAD[1:-1], ""), *(cells(figure) for figure in members)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
        for row in rows:
            parts = [row[0].ljust(widths[0])]
            parts += [text.ljust(w) if column == 1 else text.rjust(w) for column, (text, w) in
                      enumerate(zip(row[1:-1], widths[1:], strict=True))]  # fmt: skip
            lines.append("  ".join((*parts, row[-1])).rstrip())
        lines.append("")
    return "\n".join(lines)


def _load_rows(loads: list[dict[str, object]]) -> list[tuple[str, str]]:
    return [(f"{load['time']} {load['when']}", load["load average"]) for load in loads]


def _markdown_table(head: Iterable[str], rows: Iterable[Iterable[object]] | Mapping) -> list[str]:
    head = list(head)
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).strip().replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [*lines, ""]
