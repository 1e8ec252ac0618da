"""Masks in other formats, out and in: one file per format. No torch, no Ray; storage is handed in."""
