"""Status from storage: on S3, and of a large plan from names alone."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq
from made_output import VIDEOS, MadeVideo, hexadecimal, write_failure, write_output, write_progress

from cluster.finalise import row_name, shard_name
from cluster.inspect.status_report import read_status
from cluster.plan_table import SCHEMA
from cluster.stores.storage import Storage


def test_on_s3(s3):
    url, options = s3
    bad = MadeVideo("bad")
    storage = write_output(f"{url}/out", (*VIDEOS, bad), unfinished=["bad"], options=options)
    write_failure(storage, bad)
    write_progress(storage)
    status = read_status(storage)
    assert (status.state, status.videos, status.done, status.failed, status.left) == ("running", 4, 3, 1, 0)
    assert status.failures[0].error_class == "decode"


class ManyFiles(Storage):
    """A storage with a large plan and the names that belong to it; reading anything but the plan is an error."""

    def fill(self, units: int, published: int) -> None:
        columns = {
            "unit_id": [hexadecimal(str(number)) for number in range(units)],
            "video_id": [str(number) for number in range(units)],
            "kind": ["whole"] * units,
            "frames": [100] * units,
        }
        columns["video_key"] = columns["unit_id"]
        rest = {
            field.name: pa.array(
                [None if field.nullable else {"string": "x"}.get(str(field.type), 0)] * units, field.type
            )
            for field in SCHEMA
            if field.name not in columns
        }
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({n: (columns | rest)[n] for n in SCHEMA.names}, schema=SCHEMA), sink)
        self.plan = sink.getvalue().to_pybytes()
        done = range(published)
        self.names = {"_run/plan.parquet": 1} | {shard_name(columns["unit_id"][number]): 1 for number in done}
        self.names |= {row_name("videos", columns["video_id"][number]): 1 for number in done}

    def list(self, prefix: str = "") -> Mapping[str, int]:
        return {name: size for name, size in self.names.items() if name.startswith(prefix)}

    def read(self, name: str) -> bytes:
        if name == "_run/plan.parquet":
            return self.plan
        raise FileNotFoundError(name)


def test_many_units_need_no_file_but_the_plan(tmp_path):
    storage = ManyFiles(str(tmp_path))
    storage.fill(20_000, 15_000)
    status = read_status(storage)
    assert (status.videos, status.done, status.left, status.state) == (20_000, 15_000, 5_000, "stopped")
    assert (status.frames_done, status.frames) == (1_500_000, 2_000_000)
