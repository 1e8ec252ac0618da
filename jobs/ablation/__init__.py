"""What jobs.ablate is made of: clips, cells, the measurement, and what is said of it."""
