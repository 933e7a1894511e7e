"""What stands around a ready model, whoever computes it: configuration, files, tokens, features, search, answers.

Nothing here needs torch: `fastgru.models` computes with it, `fastgru.runtime` without. `tokenizers` is imported where
texts become tokens.
"""
