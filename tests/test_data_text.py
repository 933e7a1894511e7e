from fastgru.data.text import LengthBuckets, train_tokenizer

LENGTHS = [length for length in range(1, 26) for _ in range(10)]


def order(epoch: int, seed: int = 0) -> list[list[int]]:
    buckets = LengthBuckets(LENGTHS, 8, seed=seed, stretch=10)
    buckets.set_epoch(epoch)
    return list(buckets)


def test_tokenizer_lowers_case_and_forgets_rare_words() -> None:
    tokenizer = train_tokenizer(["Good film", "good FILM, rare", "caf\u00e9 cafe\u0301"])
    assert tokenizer.encode("GOOD, film unseen rare").tokens == ["good", "[UNK]", "film", "[UNK]", "[UNK]"]
    assert tokenizer.token_to_id("[PAD]") == 0
    assert tokenizer.token_to_id("[UNK]") == 1
    assert tokenizer.token_to_id("caf\u00e9") is not None
    assert tokenizer.encode("  ").ids == []


def test_tokenizer_keeps_the_most_frequent_words() -> None:
    tokenizer = train_tokenizer(["a a a b b c c"], max_words=4)
    assert sorted(tokenizer.get_vocab()) == ["[PAD]", "[UNK]", "a", "b"]


def test_buckets_hold_every_row_once() -> None:
    batches = order(0)
    assert sorted(row for batch in batches for row in batch) == list(range(len(LENGTHS)))
    assert len(batches) == len(LengthBuckets(LENGTHS, 8))
    assert max(map(len, batches)) == 8


def test_buckets_hold_rows_of_like_length() -> None:
    spread = [max(LENGTHS[row] for row in batch) - min(LENGTHS[row] for row in batch) for batch in order(0)]
    assert sum(spread) / len(spread) < 4


def test_buckets_order_is_a_function_of_seed_and_epoch() -> None:
    assert order(3) == order(3)
    assert order(3) != order(4)
    assert order(3) != order(3, seed=1)
