"""One video of a manifest, checked."""

from dataclasses import dataclass

from schemas.prompt import Prompt


@dataclass(frozen=True)
class VideoRow:
    """One video of the manifest, checked.

    row is 1-based as the user counts: the line of a JSONL file, the row that a spreadsheet shows of a CSV file (its
    header is row 1), the row of a Parquet file; of merged rows the first. end is exclusive. None: the run's default.
    unfilled: suggested prompts (jobs.review) that nobody has filled in; they are no part of `prompts`.
    """

    row: int
    video: str
    video_id: str
    prompts: tuple[Prompt, ...]
    start: int | None = None
    end: int | None = None
    stride: int | None = None
    labels: tuple[tuple[int, str], ...] = ()
    unfilled: int = 0

    def label_of(self, object_id: int) -> str | None:
        """The object's label from `labels`, or else from its prompts."""
        named = dict(self.labels)
        if object_id in named:
            return named[object_id]
        labels = (p.label for p in self.prompts if p.object_id == object_id or (p.object_id is None and not p.finds))
        return next((label for label in labels if label is not None), None)

    @property
    def objects_expected(self) -> int:
        """How many objects its prompts name; of those that a detector is to find, as many as it may, or one."""
        named, found = set(), 0
        for prompt in self.prompts:
            if prompt.finds and prompt.object_id is None:
                found += prompt.max_objects or 1
            elif prompt.finds:
                named.update(range(prompt.object_id, prompt.object_id + (prompt.max_objects or 1)))
            elif not prompt.absent:
                named.add(prompt.object_id)
        return len(named) + found
