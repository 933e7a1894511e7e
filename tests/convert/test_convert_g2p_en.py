"""fastgru.convert's GRUs of g2p_en against the package's own NumPy code, on its own checkpoint."""

from typing import Any

import numpy as np
import pytest
import torch

from fastgru.common.errors import InputError
from fastgru.convert import from_g2p_en

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # the package's own


@pytest.mark.parametrize(("part", "prefix"), [("encoder", "enc"), ("decoder", "dec")])
def test_from_g2p_en_gives_its_numbers(g2p_en: Any, part: str, prefix: str) -> None:
    gru = from_g2p_en(g2p_en.variables, part)
    assert repr(gru) == "GRU(256, 256, batch_first=True)"
    x, h0 = torch.randn(3, 9, 256, dtype=torch.float64), torch.rand(1, 3, 256, dtype=torch.float64)
    weights = [g2p_en.variables[f"{prefix}_{name}"] for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    y, _ = gru.double()(x, h0)
    h = h0[0].numpy()
    for t in range(9):
        h = g2p_en.grucell(x[:, t].numpy(), h, *weights)
        np.testing.assert_allclose(y[:, t].detach(), h, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("word", ["activationist", "fastgru", "supercalifragilistic"])
def test_a_word_is_pronounced_as_by_g2p_en(g2p_en: Any, word: str) -> None:
    encoder, decoder = (from_g2p_en(g2p_en.variables, part) for part in ("encoder", "decoder"))
    embedding, fc_w, fc_b = (torch.from_numpy(g2p_en.variables[name]) for name in ("dec_emb", "fc_w", "fc_b"))
    _, h = encoder(torch.from_numpy(g2p_en.encode(word)))
    token, phonemes = g2p_en.p2idx["<s>"], []
    for _ in range(20):
        y, h = decoder(embedding[token][None, None], h)
        token = int((fc_w @ y[0, 0] + fc_b).argmax())
        if token == g2p_en.p2idx["</s>"]:
            break
        phonemes.append(g2p_en.idx2p[token])
    assert phonemes == g2p_en.predict(word)


def test_from_g2p_en_refuses_what_does_not_fit(g2p_en: Any) -> None:
    checkpoint = g2p_en.variables
    with pytest.raises(InputError, match="part must be 'encoder' or 'decoder', got 'enc'"):
        from_g2p_en(checkpoint, "enc")
    with pytest.raises(InputError, match=r"a checkpoint of g2p_en: dec_w_ih, .* missing, got the keys enc_w_ih"):
        from_g2p_en({name: array for name, array in checkpoint.items() if name.startswith("enc_w")}, "decoder")
    with pytest.raises(InputError, match=r"enc_b_hh must have the shape \(.*,\), got \(3,\)"):
        from_g2p_en({**checkpoint, "enc_b_hh": np.zeros(3, "f")}, "encoder")
