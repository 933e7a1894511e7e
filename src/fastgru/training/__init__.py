"""Training on Lightning: run folders, the classifier's training, and its measures."""
