"""The machine room: plan, driver, actor, storage, video input, progress. Ray and fsspec live here."""

import os

# Read when Arrow is loaded, so before. Its own allocator keeps what its largest row group took, 13 MB for 10,000 rows
# of masks; the system's keeps 4. Whoever sets the variable has reasons.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
