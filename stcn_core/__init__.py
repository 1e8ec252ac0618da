"""The science: network, memory bank, readout, offline passes, prompts, metrics. No Ray, no storage."""
