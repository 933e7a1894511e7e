"""The movie-review snippets with human ratings from the ICWSM 2014 data of Hutto and Gilbert (MIT licence).

10,605 sentences from reviews, each rated by some 20 people from -4 (very negative) to 4 (very positive).
They come inside the source distribution of vaderSentiment 3.3.2, which pip fetches; they are not part of fastgru.
"""

import math

from fastgru.data.labelled import LabelledTexts
from fastgru.data.packaged import Member, Packaged

REVIEWS = Packaged(
    what="the movie reviews",
    requirement="vaderSentiment==3.3.2",
    archive="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    megabytes=2.5,
    members=(
        Member(
            path=(
                "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
                "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
            ),
            sha256="c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
        ),
    ),
)


def load_reviews() -> LabelledTexts:
    """Give the snippets; label "positive" where the mean rating is above 0, otherwise "negative".

    The soft label of "positive" is `sigmoid(mean rating)`: 0.5 where people are divided, 0.95 at a rating of 3.
    """
    (file,) = REVIEWS.fetch()
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if line]
    ratings = [float(rating) for _, rating, _ in rows]
    positive = [1 / (1 + math.exp(-rating)) for rating in ratings]
    return LabelledTexts(
        texts=[text for _, _, text in rows],
        labels=["positive" if rating > 0 else "negative" for rating in ratings],
        soft_labels=[{"negative": 1 - p, "positive": p} for p in positive],
    )
