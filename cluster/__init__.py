"""The machine room: plan, driver, actor, storage, video input, progress. Ray and fsspec live here."""
