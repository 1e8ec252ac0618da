"""Training on synthetic video: the renderer, the samples made of it, the loss, the trainer and its validation."""
