"""Real data in: labelled texts from files, from Hugging Face datasets and from the movie-review set."""
