"""The forward pass: all steps of a batch slice in one launch, the state in float32 registers."""

import triton
import triton.language as tl

from fastgru.backends.triton.tiles import (
    AFTER,
    ALL,
    BEFORE,
    FACTOR,
    MASK,
    NORMED,
    N,
    R,
    Z,
    arrive,
    gate_products,
    merged,
    place,
    reset_of,
    row_of,
    tanh,
    three,
    told,
    wait,
    weights,
)

EPSILON = tl.constexpr(1e-5)  # of layer norm: fastgru.core.reference.EPSILON


@triton.jit
def _found(
    gx, zoneout, resets, begin, starts, t, back, step, steps, length, there, u, d, D, H,
    HAS_RESETS: tl.constexpr, ZONEOUT: tl.constexpr, HAS_TIME: tl.constexpr,
):  # fmt: skip
    """What step t finds beside the state: where it is real, its rows, gx, whether it starts anew, zoneout's mask."""
    real = there & ((t >= 0) & (t < length))[None, :]
    row = row_of(begin, starts, t, step, steps, HAS_TIME)
    x_r, x_z, x_n = three(gx, (row * D + d) * 3 * H + u[:, None], H, real)
    anew, m = real, x_n  # what takes no part
    if HAS_RESETS:
        anew = reset_of(resets, begin, starts, t + back, step, steps, length, HAS_TIME)
    if ZONEOUT == MASK:
        m = tl.load(zoneout + (row * D + d) * H + u[:, None], mask=real, other=0).to(tl.float32)
    return real, row, x_r, x_z, x_n, anew, m


@triton.jit
def _normed(
    h_r, h_z, h_n, g_r, g_z, g_n, sums, arrived, target, part, u, H,
    BH: tl.constexpr, BB: tl.constexpr, PARTS: tl.constexpr, PEERS: tl.constexpr,
):  # fmt: skip
    """LayerNorm over the 3H rows, times the gains. Parts merge by their means: Chan et al. 1979, eq. 2.1."""
    is_unit = (u < H)[:, None]
    count = 3 * tl.minimum(BH, H - part * BH)
    mean = tl.sum(h_r + h_z + h_n, axis=0) / count  # the rows of no unit are zero
    c_r, c_z, c_n = h_r - mean[None, :], h_z - mean[None, :], h_n - mean[None, :]
    squares = tl.sum(tl.where(is_unit, c_r * c_r + c_z * c_z + c_n * c_n, 0), axis=0)
    if PARTS > 1:
        at = sums + part * 2 * BB + tl.arange(0, BB)
        tl.store(at, mean)
        tl.store(at + BB, squares)
        arrive(arrived)
        wait(arrived, target)
        means, all_squares, counts = merged(sums, mean, squares, part, H, BH, BB, PARTS, PEERS)
        mean = tl.sum(means * counts, axis=0) / (3 * H)
        apart = means - mean[None, :]
        squares = tl.sum(all_squares + counts * apart * apart, axis=0)
    inverse = tl.rsqrt(squares / (3 * H) + EPSILON)[None, :]
    mean = mean[None, :]
    return (h_r - mean) * inverse * g_r, (h_z - mean) * inverse * g_z, (h_n - mean) * inverse * g_n


@triton.jit(do_not_specialize=["B", "D", "step", "first_cta", "reverse"])
def gru_forward(
    gx, w_hh, b_hh, g_hh, h0, initial, recurrent, zoneout, resets, order, first, lengths, starts,
    y, h_n, exchange, sums, arrived, B, H, D, step, first_cta, reverse, keep,
    FORM: tl.constexpr, HAS_RESETS: tl.constexpr, HAS_RECURRENT: tl.constexpr, ZONEOUT: tl.constexpr,
    HAS_TIME: tl.constexpr, RESIDENT: tl.constexpr, PRECISION: tl.constexpr, BH: tl.constexpr, BB: tl.constexpr,
    K: tl.constexpr, KS: tl.constexpr, PARTS: tl.constexpr, PEERS: tl.constexpr,
):  # fmt: skip
    """y and h_n of a layer.

    gx [N, D, 3H]: the input pre-activations, biases and norm included; w_hh [D, 3H, H]; b_hh, g_hh [D, 3H];
    h0, recurrent, h_n [D, B, H]; initial [D, H]; zoneout, y [N, D, H]; resets [N] uint8. y is written at real steps.
    order, first, lengths [B] int64, by falling length: which sequence, its first row, its steps; starts [T] int64.
    exchange [slices * D, 2, 1 or 2, BB, K], sums [slices * D, 2, PARTS, 2, BB] float32, arrived [slices * D, 32] int32:
    zeros. first_cta: the number of this launch's first CTA.
    """
    cta = tl.program_id(0) + first_cta
    piece, part, d, u, there, own, begin, length = place(cta, order, first, lengths, B, H, D, BH, BB, PARTS)
    back = tl.where((d == 1) | (reverse != 0), 1, 0)
    TELLS: tl.constexpr = PARTS > 1 or not RESIDENT
    ROUNDS: tl.constexpr = 1 if FORM == AFTER or (FORM == NORMED and PARTS == 1) else 2  # barriers of a step
    TILES: tl.constexpr = 2 if FORM == BEFORE else 1
    w = w_hh + d.to(tl.int64) * 3 * H * H
    is_unit = (u < H)[:, None]
    if RESIDENT:
        w_r, w_z, w_n = weights(w, u, H, K, KS, False)
    else:
        w_r, w_z, w_n = 0, 0, 0
    b_r, b_z, b_n = three(b_hh, d * 3 * H + u[:, None], H, is_unit)
    start = tl.load(initial + d * H + u, mask=u < H, other=0).to(tl.float32)[:, None]
    h = tl.load(h0 + own, mask=there, other=0).to(tl.float32)
    steps = tl.max(length, axis=0).to(tl.int32)
    tell = tl.arange(0, BB)[None, :] * K + u[:, None]
    count = arrived + piece * 32
    t = tl.where(back == 1, steps - 1, 0)
    real, row, x_r, x_z, x_n, anew, m = _found(
        gx, zoneout, resets, begin, starts, t, back, step, steps, length, there, u, d, D, H,
        HAS_RESETS, ZONEOUT, HAS_TIME,
    )  # fmt: skip
    for i in range(steps):
        if HAS_RESETS:
            h = tl.where(anew, start, h)
        carried = h
        if HAS_RECURRENT:
            carried = h * tl.load(recurrent + own, mask=there, other=0).to(tl.float32)
        seen = carried.to(w_hh.dtype.element_ty)
        turn = exchange + (2 * piece + i % 2).to(tl.int64) * TILES * BB * K
        if TELLS:
            tl.store(turn + tell, seen)
            arrive(count)
        later = t + 1 - 2 * back  # asked for now, used in the next round
        next_real, next_row, next_r, next_z, next_n, next_anew, next_m = _found(
            gx, zoneout, resets, begin, starts, later, back, step, steps, length, there, u, d, D, H,
            HAS_RESETS, ZONEOUT, HAS_TIME,
        )  # fmt: skip
        if TELLS:
            wait(count, (i * ROUNDS + 1) * PARTS)
            if RESIDENT:
                seen = told(turn, BB, K, KS)
        if FORM == BEFORE:
            h_r, h_z, _ = gate_products(w_r, w_z, w_n, seen, w, u, H, turn, R | Z, RESIDENT, BH, BB, K, KS, PRECISION)
            r, z = tl.sigmoid(x_r + b_r + h_r), tl.sigmoid(x_z + b_z + h_z)
            left = (r * carried).to(w_hh.dtype.element_ty)
            if TELLS:
                tl.store(turn + BB * K + tell, left)
                arrive(count)
                wait(count, (i * ROUNDS + 2) * PARTS)
                if RESIDENT:
                    left = told(turn + BB * K, BB, K, KS)
            _, _, q = gate_products(w_r, w_z, w_n, left, w, u, H, turn + BB * K, N, RESIDENT, BH, BB, K, KS, PRECISION)
            n = tanh(x_n + (b_n + q))
        else:
            h_r, h_z, q = gate_products(w_r, w_z, w_n, seen, w, u, H, turn, ALL, RESIDENT, BH, BB, K, KS, PRECISION)
            if FORM == NORMED:
                g_r, g_z, g_n = three(g_hh, d * 3 * H + u[:, None], H, is_unit)
                at = sums + (2 * piece + i % 2) * PARTS * 2 * BB
                h_r, h_z, q = _normed(
                    h_r, h_z, q, g_r, g_z, g_n, at, count, (i * ROUNDS + 2) * PARTS, part, u, H, BH, BB, PARTS, PEERS
                )
            r, z = tl.sigmoid(x_r + b_r + h_r), tl.sigmoid(x_z + b_z + h_z)
            n = tanh(x_n + r * (b_n + q))
        after = n + z * (h - n)
        if ZONEOUT == FACTOR:
            after = h + keep * (after - h)
        if ZONEOUT == MASK:
            after = h + m * (after - h)
        h = tl.where(real, after, h)
        tl.store(y + (row * D + d) * H + u[:, None], h.to(y.dtype.element_ty), mask=real)
        x_r, x_z, x_n, anew, m = next_r, next_z, next_n, next_anew, next_m
        t, real, row = later, next_real, next_row
    tl.store(h_n + own, h.to(h_n.dtype.element_ty), mask=there)
