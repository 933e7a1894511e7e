from fastgru.data.tokenizer import train_tokenizer


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
