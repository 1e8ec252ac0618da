"""The three formats of a manifest -> numbered records, without judging what stands in them."""

import contextlib
import csv
import io
from typing import Any

from schemas.manifest_rows import FIELDS, FLAT, FLAT_MARK, unknown_key
from schemas.manifest_values import Wrong, from_json, shown
from schemas.problem import Problem
from schemas.prompt_record import FIELDS as PROMPT_FIELDS
from schemas.urls import file_name

Records = tuple[list[tuple[int, Any]], bool, list[Problem]]

WHOLE = ("frame", "object_id", "start", "end", "stride", "max_objects", "candidates")
FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
ENCODING_REMEDY = "Save it as UTF-8"


def read_records(name: str, data: bytes, foreign: bool = False) -> Records:
    """(records with their row numbers, whether rows of one video are merged, problems). The suffix says the format.

    foreign: columns of a table that mean nothing here are read too, instead of being a problem.
    """
    suffix = file_name(name).rpartition(".")[2].lower()
    if suffix in ("jsonl", "ndjson"):
        return _jsonl(data)
    if suffix == "csv":
        return _csv(data, foreign)
    if suffix == "parquet":
        return _parquet(data, foreign)
    reason = f"its name ends with {'.' + suffix if '.' in file_name(name) else 'no suffix'}"
    return [], False, [Problem(0, "", reason, "Name it .jsonl (one JSON object a line), .csv or .parquet")]


def _jsonl(data: bytes) -> Records:
    records, problems = [], []
    if data.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0].strip() in (b"[", b"{"):
        return [], False, [Problem(1, "", "it is JSON over several lines", "Write one JSON object per line")]
    # Bytes are split, so that U+2028 inside a text ends no line; a line that is not UTF-8 is that line's problem.
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            records.append((number, from_json(line.decode("utf-8"))))
        except UnicodeDecodeError as error:
            problems.append(Problem(number, "", f"it is not UTF-8 ({error.reason})", ENCODING_REMEDY))
        except Wrong as wrong:
            remedy = "Write one JSON object per line" if "JSON" in wrong.reason else wrong.remedy
            problems.append(Problem(number, "", wrong.reason, remedy))
    return records, False, problems


def _csv(data: bytes, foreign: bool) -> Records:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return [], True, [Problem(line, "", f"it is not UTF-8 ({error.reason})", ENCODING_REMEDY)]
    # A mask given inline can be long; the limit is per process, so it is put back.
    earlier = csv.field_size_limit(max(len(text), 1))
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        return [], True, [Problem(0, "", f"it is not CSV ({error})", "Check quotes and NUL characters")]
    finally:
        csv.field_size_limit(earlier)
    if not any(lines):
        return [], True, []
    start = next(position for position, line in enumerate(lines) if line)
    header = [name.strip() for name in lines[start]]
    unknown = [] if foreign else [name for name in dict.fromkeys(header) if name not in FLAT]
    problems = [unknown_key(start + 1, "", name, FLAT) for name in unknown]
    for name in {name for name in header if header.count(name) > 1}:
        problems.append(Problem(start + 1, name, "the column stands twice", "Remove one"))
    if "video" not in header:
        problems.append(Problem(start + 1, "video", "the column is missing", "Add a header row with a video column"))
    if problems:
        return [], True, problems
    records = []
    for number, cells in enumerate(lines[start + 1 :], start + 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            reason = f"it has {len(cells)} cells, the header {len(header)}"
            problems.append(Problem(number, "", reason, "Put quotes around values that hold a comma"))
            continue
        record: dict[str, Any] = {FLAT_MARK: True}
        for name, cell in zip(header, cells, strict=True):
            if cell.strip():
                try:
                    record[name] = _cell(name, cell.strip())
                except Wrong as wrong:
                    problems.append(Problem(number, name, wrong.reason, wrong.remedy))
        records.append((number, record))
    return records, True, problems


def _cell(name: str, cell: str) -> Any:
    """Text of a CSV cell -> what JSON would hold there; where that fails the text stays and is judged later."""
    if name in WHOLE:
        # A column of whole numbers with gaps comes as 2.0 from tables that know no missing ones.
        return _number(cell, int, float)
    if name in ("time", "min_score"):
        return _number(cell, float)
    if name in ("complete", "absent"):
        return FLAGS.get(cell.lower(), cell)
    if name in ("prompts", "rle", "labels"):
        return from_json(cell)
    return cell


def _number(cell: str, *kinds: type) -> Any:
    for kind in kinds if cell.isascii() else ():
        with contextlib.suppress(ValueError):
            return kind(cell)
    return cell


def _parquet(data: bytes, foreign: bool) -> Records:
    import pyarrow as pa

    from schemas.parquet import read_table

    try:
        table = read_table(data)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = f"it is not a readable Parquet file ({shown(str(error))})"
        return [], False, [Problem(0, "", reason, "Write it again, or use .jsonl")]
    names = table.column_names
    flat = "prompts" not in names
    known = (*FIELDS, *PROMPT_FIELDS) if flat else FIELDS
    unknown = [] if foreign else [name for name in dict.fromkeys(names) if name not in known]
    problems = [unknown_key(0, "", name, known) for name in unknown]
    problems += [Problem(0, name, "the column stands twice", "Remove one") for name in _twice(names)]
    if "video" not in names:
        problems.append(Problem(0, "video", "the column is missing", "Add it"))
    if problems:
        return [], flat, problems
    records = []
    for number, record in enumerate(table.to_pylist(), 1):
        if flat:
            record[FLAT_MARK] = True
        for name in ("prompts", "rle", "points"):
            if isinstance(record.get(name), str):
                try:
                    record[name] = from_json(record[name])
                except Wrong as wrong:
                    record[name] = None
                    problems.append(Problem(number, name, wrong.reason, wrong.remedy))
        records.append((number, record))
    return records, flat, problems


def _twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
