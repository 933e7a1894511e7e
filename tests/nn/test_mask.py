"""`mask=`, what tokenizers give: the same as `lengths`."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import fastgru

T, B, I, H = 5, 4, 3, 6
LENGTHS = torch.tensor([2, 5, 0, 4])
MASK = torch.arange(T) < LENGTHS[:, None]  # [B, T]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.int32, torch.uint8], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_mask_is_another_word_for_lengths(batch_first: bool, dtype: torch.dtype) -> None:
    gru = fastgru.GRU(I, H, 2, bidirectional=True, batch_first=batch_first)
    x = torch.randn((B, T, I) if batch_first else (T, B, I), requires_grad=True)
    found, expected = gru(x, mask=MASK.to(dtype)), gru(x, lengths=LENGTHS)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    cotangents = [torch.randn_like(y) for y in found]
    got, wanted = (torch.autograd.grad(outputs, [x, *gru.parameters()], cotangents) for outputs in (found, expected))
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


def test_a_mask_gives_the_states_of_torchs_packed_sequences() -> None:
    theirs, ours = torch.nn.GRU(I, H, batch_first=True), fastgru.GRU(I, H, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    x, lengths = torch.randn(B, T, I), torch.tensor([2, 5, 1, 4])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    _, h_n = ours(x, mask=torch.arange(T) < lengths[:, None])
    torch.testing.assert_close(h_n, theirs(packed)[1])


def test_a_mask_is_compiled() -> None:
    gru = fastgru.GRU(I, H, batch_first=True)
    x = torch.randn(B, T, I)
    compiled = torch.compile(gru, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, mask=MASK), gru(x, mask=MASK))


@pytest.mark.parametrize("row", [[0, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 1]], ids=str)
def test_a_mask_with_holes_is_refused(row: list[int]) -> None:
    mask = MASK.long()
    mask[1] = torch.tensor(row)
    with pytest.raises(ValueError, match="here a true step follows a false one"):
        fastgru.GRU(I, H)(torch.randn(T, B, I), mask=mask)


def test_a_mask_that_does_not_fit_is_refused() -> None:
    gru, x = fastgru.GRU(I, H), torch.randn(T, B, I)
    for mask in (MASK.T, MASK[:, :-1], MASK[:1], MASK.float()):
        with pytest.raises(ValueError, match=r"mask must be \[4, 5\] bool or uint8 or .* for this input, got "):
            gru(x, mask=mask)
    with pytest.raises(TypeError, match="mask must be a tensor, got a list"):
        gru(x, mask=MASK.tolist())
    with pytest.raises(ValueError, match="lengths cannot be given together with mask"):
        gru(x, mask=MASK, lengths=LENGTHS)
    with pytest.raises(ValueError, match="mask cannot be given together with one sequence"):
        gru(x[:, 0], mask=MASK[0])
    with pytest.raises(ValueError, match="mask cannot be given together with cu_seqlens"):
        gru(x.flatten(0, 1), cu_seqlens=torch.tensor([0, T * B]), mask=MASK)
    packed = pack_padded_sequence(x, torch.tensor([5, 4, 2, 1]))
    with pytest.raises(ValueError, match="mask cannot be given together with a PackedSequence"):
        gru(packed, mask=MASK)
