"""What `jobs.benchmark` measures: clocks, the things compared, one file per section, the report."""
