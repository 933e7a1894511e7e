"""The pronunciation model inside the PyPI package g2p_en, as a Seq2Seq."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastgru.convert.g2p_en import from_g2p_en
from fastgru.convert.weights import as_array, entries
from fastgru.inference.seq2seq_config import Seq2SeqConfig
from fastgru.inference.tokens import SOURCE_SPECIAL, TARGET_SPECIAL, source_tokenizer, target_tokenizer
from fastgru.models.seq2seq import Seq2Seq

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOWELS = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]
CONSONANTS = [
    "B",
    "CH",
    "D",
    "DH",
    "F",
    "G",
    "HH",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
]
# Its own order. "UW" without a stress is in its list too.
PHONEMES = sorted([*CONSONANTS, "UW", *(vowel + stress for vowel in VOWELS for stress in "012")])


def seq2seq_from_g2p_en(checkpoint: Mapping[str, Any]) -> Seq2Seq:
    """Make the package's model of its weights: two GRUs of one direction without attention.

    `checkpoint`: what `numpy.load` gives for g2p_en's checkpoint20.npz. The model reads lower-cased letters and writes
    phonemes with stress; `predict([word], beam=1, max_length=20)` gives what the package's `G2p.predict(word)` gives.
    Raises InputError where the checkpoint lacks an array or has one of another shape.
    Source: g2p_en 2.1.0, `G2p.predict`.

    >>> import g2p_en, numpy
    >>> from fastgru.models import seq2seq_from_g2p_en
    >>> model = seq2seq_from_g2p_en(numpy.load(g2p_en.__path__[0] + "/checkpoint20.npz"))
    >>> model.predict(["fastgru"], beam=1, max_length=20)[0][0].text
    'F AE1 S T G R UW0'
    """
    encoder, decoder = (from_g2p_en(checkpoint, part) for part in ("encoder", "decoder"))
    read, written = (gru.spec.hidden_sizes[0] for gru in (encoder, decoder))
    names = ("enc_emb", "dec_emb", "fc_w", "fc_b")
    arrays = dict(zip(names, entries(checkpoint, "a checkpoint of g2p_en", list(names)), strict=True))
    sources, targets = len(SOURCE_SPECIAL) + len(LETTERS), len(TARGET_SPECIAL) + len(PHONEMES)
    config = Seq2SeqConfig(
        source_size=sources,
        target_size=targets,
        embedding_size=encoder.input_size,
        encoder_size=read,
        encoder_layers=1,
        decoder_size=written,
        bidirectional=False,
        attention="none",
        bridge=False,
        dropout=0.0,
    )
    model = Seq2Seq(config, source_tokenizer("characters", LETTERS, fold=True), target_tokenizer("words", PHONEMES))
    shapes = {
        "enc_emb": (sources, encoder.input_size),
        "dec_emb": (targets, decoder.input_size),
        "fc_w": (targets, written),
        "fc_b": (targets,),
    }
    tensors: dict[str, Tensor] = {
        name: torch.tensor(as_array(arrays[name], name, *shape)) for name, shape in shapes.items()
    }
    own = {"enc_emb": "source_embedding.weight", "dec_emb": "target_embedding.weight"}
    own |= {"fc_w": "output.weight", "fc_b": "output.bias"}
    state = {own[name]: tensor for name, tensor in tensors.items()}
    state |= {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    state |= {f"decoder.gru.{name}": tensor for name, tensor in decoder.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()
