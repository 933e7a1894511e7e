"""The classifier beside TF-IDF with logistic regression, on the same split: `python -m benchmarks.text_baselines`.

Each set of `benchmarks.text_sets`, and the file of `--data`, is split as `fastgru train classify` splits a table. It
trains with the command's own defaults. The baselines are scikit-learn's: TF-IDF of words, and of n-grams of 1 to 4
characters inside words; logistic regression with C chosen out of 1, 10 and 100 by the validation part. The test part is
measured once by each.
"""

import argparse
import csv
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from benchmarks.text_sets import load_languages, load_sms
from fastgru.data.labelled import LabelledTexts
from fastgru.data.stream import TextSplits
from fastgru.data.texts import load_splits
from fastgru.training.classify import Classify, ClassifyOptions
from fastgru.training.classify.measure import measure
from fastgru.training.run import train
from fastgru.training.run_folder import RunFolder

SETS: dict[str, Callable[[], LabelledTexts]] = {"sms": load_sms, "languages": load_languages}
FEATURES = {"words": {}, "characters": {"analyzer": "char_wb", "ngram_range": (1, 4)}}
Row = tuple[str, float, float, float]


def main() -> None:
    """Train and measure on each set, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS), help="default: all")
    parser.add_argument("--data", nargs="*", default=[], help="tables with the columns text and label")
    parser.add_argument("--tokens", help="of the classifier; default: the command's own choice")
    parser.add_argument("--out", type=Path, default=Path("runs/baselines"), help="folder for the runs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tables = [_write(name, arguments.out) for name in arguments.sets] + arguments.data
    for table in tables:
        options = ClassifyOptions(data=table, tokens=arguments.tokens)
        splits = load_splits(table, options.text, options.label)
        rows = [_classifier(options, splits, arguments.out / f"{Path(table).stem}-run")]
        rows += [_baseline(name, splits) for name in FEATURES]
        _print(table, splits, rows)


def _write(name: str, folder: Path) -> str:
    """Write a set into the CSV file that the command would be given."""
    rows = SETS[name]()
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(rows.texts, rows.labels, strict=True)])
    return str(folder / f"{name}.csv")


def _classifier(options: ClassifyOptions, splits: TextSplits, out: Path) -> Row:
    started = time.perf_counter()
    train(options, RunFolder(out), Console(stderr=True), overwrite=True, data=splits)
    seconds = time.perf_counter() - started
    found = measure(Classify().load_model(str(out)), splits.test, "the test part")
    return "fastgru train classify", found.accuracy, found.f1_macro, seconds


def _baseline(name: str, splits: TextSplits) -> Row:
    started = time.perf_counter()
    vectorizer = TfidfVectorizer(**FEATURES[name])
    parts = [vectorizer.fit_transform(splits.train.texts)]
    parts += [vectorizer.transform(part.texts) for part in (splits.validation, splits.test)]
    models = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in (1, 10, 100):
            models.append(LogisticRegression(C=strength, max_iter=200).fit(parts[0], list(splits.train.labels)))
    best = max(models, key=lambda model: model.score(parts[1], splits.validation.labels))
    told = best.predict(parts[2])
    accuracy = float((told == splits.test.labels).mean())
    score = float(f1_score(splits.test.labels, told, average="macro"))
    return f"TF-IDF of {name}, logistic regression", accuracy, score, time.perf_counter() - started


def _print(table: str, splits: TextSplits, rows: list[Row]) -> None:
    print(
        f"{table}: {len(splits.train):,} texts to train on, {len(splits.test):,} to test, {len(splits.labels)} labels"
    )
    for name, accuracy, score, seconds in rows:
        print(f"  {name:40} accuracy {accuracy:.4f}   F1 (macro) {score:.4f}   {seconds:5.0f} s")


if __name__ == "__main__":
    main()
