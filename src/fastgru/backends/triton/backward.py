"""The backward pass: from the last step to the first, the gradient of the state in float32 registers.

What does not depend on it comes from two products of all steps at once, before: gx and gh. It leaves the gradients of
these, of which products of all steps make those of x and of the weights, after.
"""

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
    merged,
    place,
    put,
    reset_of,
    row_of,
    state_product,
    tanh,
    three,
    told,
    wait,
    weights,
)


@triton.jit(do_not_specialize=["B", "D", "rows", "step", "reverse"])
def states_before(
    y, h0, initial, recurrent, resets, order, first, lengths, starts, before, seen, B, H, D, rows, step, reverse,
    HAS_RESETS: tl.constexpr, HAS_RECURRENT: tl.constexpr, HAS_TIME: tl.constexpr, BT: tl.constexpr, BU: tl.constexpr,
):  # fmt: skip
    """before [D, N, H]: the state that each step finds; seen: the same times the recurrent mask, in the dtype of y.

    One program for each sequence, direction and BU units.
    """
    p, d, u = tl.program_id(0) // D, tl.program_id(0) % D, tl.program_id(1) * BU + tl.arange(0, BU)
    back = tl.where((d == 1) | (reverse != 0), 1, 0)
    b, begin, length = tl.load(order + p), tl.load(first + p), tl.load(lengths + p)
    is_unit = (u < H)[None, :]
    start = tl.load(h0 + (d.to(tl.int64) * B + b) * H + u, mask=u < H, other=0)[None, :]
    fresh = tl.load(initial + d * H + u, mask=u < H, other=0)[None, :]
    if HAS_RECURRENT:
        mask = tl.load(recurrent + (d.to(tl.int64) * B + b) * H + u, mask=u < H, other=0)[None, :].to(tl.float32)
    steps = length.to(tl.int32)
    for c in range(0, steps, BT):
        t = c + tl.arange(0, BT)
        row = row_of(begin, starts, t, step, steps, HAS_TIME)
        past = t - 1 + 2 * back
        past_row = row_of(begin, starts, past, step, steps, HAS_TIME)
        has_past = ((past >= 0) & (past < length) & (t < length))[:, None]
        h = tl.load(y + (past_row * D + d)[:, None] * H + u[None, :], mask=has_past & is_unit, other=0)
        h = tl.where(has_past, h, start)
        if HAS_RESETS:
            at = t + back
            reset_row = row_of(begin, starts, at, step, steps, HAS_TIME)
            anew = tl.load(resets + reset_row, mask=at < length, other=0) != 0
            h = tl.where(anew[:, None], fresh, h)
        to = (d.to(tl.int64) * rows + row)[:, None] * H + u[None, :]
        there = (t < length)[:, None] & is_unit
        tl.store(before + to, h, mask=there)
        if HAS_RECURRENT:
            tl.store(seen + to, (h.to(tl.float32) * mask).to(seen.dtype.element_ty), mask=there)


@triton.jit
def _saved(
    gx, gh, before, dy, zoneout, resets, inverse, begin, starts, t, back, step, steps, length, there, u, d, D, H, rows,
    HAS_RESETS: tl.constexpr, ZONEOUT: tl.constexpr, HAS_TIME: tl.constexpr, FORM: tl.constexpr,
):  # fmt: skip
    """What was found at step t."""
    real = there & ((t >= 0) & (t < length))[None, :]
    row = row_of(begin, starts, t, step, steps, HAS_TIME)
    of_y, of_h = (row * D + d) * H + u[:, None], (d.to(tl.int64) * rows + row) * H + u[:, None]
    x_r, x_z, x_n = three(gx, (row * D + d) * 3 * H + u[:, None], H, real)
    h_r, h_z, q = three(gh, (d.to(tl.int64) * rows + row) * 3 * H + u[:, None], H, real)
    h = tl.load(before + of_h, mask=real, other=0).to(tl.float32)
    c = tl.load(dy + of_y, mask=real, other=0).to(tl.float32)
    anew, m, scale = real, h, real  # what takes no part
    if HAS_RESETS:
        anew = reset_of(resets, begin, starts, t + back, step, steps, length, HAS_TIME)
    if ZONEOUT == MASK:
        m = tl.load(zoneout + of_y, mask=real, other=0).to(tl.float32)
    if FORM == NORMED:
        there_row = ((t >= 0) & (t < length))[None, :]
        scale = tl.load(inverse + d.to(tl.int64) * rows + row, mask=there_row, other=0)
    return real, row, x_r, x_z, x_n, h_r, h_z, q, h, c, anew, m, scale


@triton.jit
def _through_norm(
    d_r, d_z, d_q, n_r, n_z, n_n, g_r, g_z, g_n, scale, sums, arrived, target, part, u, H,
    BH: tl.constexpr, BB: tl.constexpr, PARTS: tl.constexpr, PEERS: tl.constexpr,
):  # fmt: skip
    """The gradients of W_hh h of those of its norm times the gains: with v = g d and n what was normed,

    (v - mean(v) - n mean(v n)) / sqrt(variance + 1e-5), the means over all 3H rows.
    """
    v_r, v_z, v_n = d_r * g_r, d_z * g_z, d_q * g_n  # zero where there is no unit: the gains are
    one = tl.sum(v_r + v_z + v_n, axis=0)
    other = tl.sum(v_r * n_r + v_z * n_z + v_n * n_n, axis=0)
    if PARTS > 1:
        at = sums + part * 2 * BB + tl.arange(0, BB)
        tl.store(at, one)
        tl.store(at + BB, other)
        arrive(arrived)
        wait(arrived, target)
        ones, others, _ = merged(sums, one, other, part, H, BH, BB, PARTS, PEERS)
        one, other = tl.sum(ones, axis=0), tl.sum(others, axis=0)
    mean, share = (one / (3 * H))[None, :], (other / (3 * H))[None, :]
    return (v_r - mean - n_r * share) * scale, (v_z - mean - n_z * share) * scale, (v_n - mean - n_n * share) * scale


@triton.jit(do_not_specialize=["B", "D", "rows", "step", "first_cta", "reverse", "tbptt"])
def gru_backward(
    gx, gh, before, inverse, w_hh, b_hh, g_hh, recurrent, zoneout, resets, order, first, lengths, starts,
    dy, dh_n, dgx, dgh, dq, dh0, dinitial, exchange, sums, arrived,
    B, H, D, rows, step, first_cta, reverse, tbptt, keep,
    FORM: tl.constexpr, HAS_RESETS: tl.constexpr, HAS_RECURRENT: tl.constexpr, ZONEOUT: tl.constexpr,
    HAS_TIME: tl.constexpr, RESIDENT: tl.constexpr, PRECISION: tl.constexpr, BH: tl.constexpr, BB: tl.constexpr,
    K: tl.constexpr, KS: tl.constexpr, PARTS: tl.constexpr, PEERS: tl.constexpr,
):  # fmt: skip
    """The gradients dgx [N, D, 3H] of gx, and dgh [D, N, 3H] of the product W_hh h; both are written at real steps.

    gx [N, D, 3H] and gh [D, N, 3H] as the gates take them, biases included; NORMED: gh is the normed product, without
    gains and bias, of scale inverse [D, N] float32, and dq [D, N, H] is the gradient of n's gh. BEFORE: dgh is dgx, and
    not written. before [D, N, H]: the state that each step finds. dy [N, D, H]; dh_n, dh0, dinitial [D, B, H].
    exchange [slices * D, 2, 3, BB, K]. The others are gru_forward's.
    """
    cta = tl.program_id(0) + first_cta
    piece, part, d, u, there, own, begin, length = place(cta, order, first, lengths, B, H, D, BH, BB, PARTS)
    back = tl.where((d == 1) | (reverse != 0), 1, 0)
    TELLS: tl.constexpr = PARTS > 1 or not RESIDENT
    ROUNDS: tl.constexpr = 1 if FORM == AFTER or (FORM == NORMED and PARTS == 1) else 2  # barriers of a step
    w = w_hh + d.to(tl.int64) * 3 * H * H
    is_unit = (u < H)[:, None]
    if RESIDENT:
        w_r, w_z, w_n = weights(w, u, H, K, KS, True)
    else:
        w_r, w_z, w_n = 0, 0, 0
    dh = tl.load(dh_n + own, mask=there, other=0).to(tl.float32)
    dstart = tl.zeros_like(dh)
    steps = tl.max(length, axis=0).to(tl.int32)
    tell = tl.arange(0, BB)[None, :] * K + u[:, None]
    count = arrived + piece * 32
    t = tl.where(back == 1, 0, steps - 1)
    real, row, x_r, x_z, x_n, h_r, h_z, q, h, c, anew, m, scale = _saved(
        gx, gh, before, dy, zoneout, resets, inverse, begin, starts, t, back, step, steps, length, there, u, d, D, H,
        rows, HAS_RESETS, ZONEOUT, HAS_TIME, FORM,
    )  # fmt: skip
    for i in range(steps):
        g_r, g_z, g_n = h_r, h_z, q
        if FORM == NORMED:
            g_r, g_z, g_n = three(g_hh, d * 3 * H + u[:, None], H, is_unit)
            b_r, b_z, b_n = three(b_hh, d * 3 * H + u[:, None], H, is_unit)
            r, z = tl.sigmoid(x_r + (h_r * g_r + b_r)), tl.sigmoid(x_z + (h_z * g_z + b_z))
            by_r = q * g_n + b_n
            n = tanh(x_n + r * by_r)
        else:
            r, z = tl.sigmoid(x_r + h_r), tl.sigmoid(x_z + h_z)
            by_r = q
            n = tanh(x_n + q) if FORM == BEFORE else tanh(x_n + r * q)
        given = tl.where(real, dh + c, 0)
        kept = tl.zeros_like(dh)  # what zoneout hands on
        if ZONEOUT == FACTOR:
            kept = (1 - keep) * given
            given = keep * given
        if ZONEOUT == MASK:
            kept = (1 - m) * given
            given = m * given
        mask = tl.zeros_like(dh)
        if HAS_RECURRENT:
            mask = tl.load(recurrent + own, mask=there, other=0).to(tl.float32)
        d_n = given * (1 - z) * (1 - n * n)
        d_z = given * (h - n) * z * (1 - z)
        turn = exchange + (2 * piece + i % 2).to(tl.int64) * 3 * BB * K
        of_x = (row * D + d) * 3 * H + u[:, None]
        of_h = (d.to(tl.int64) * rows + row) * 3 * H + u[:, None]
        if FORM == BEFORE:
            seen = h * mask if HAS_RECURRENT else h
            e_n, e_z = d_n.to(dgx.dtype.element_ty), d_z.to(dgx.dtype.element_ty)
            all_n, all_z = e_n, e_z
            if TELLS:
                tl.store(turn + 2 * BB * K + tell, e_n)
                tl.store(turn + BB * K + tell, e_z)
                arrive(count)
                wait(count, (i * ROUNDS + 1) * PARTS)
                if RESIDENT:
                    all_n = told(turn + 2 * BB * K, BB, K, KS)
            left = state_product(
                w_r, w_z, w_n, all_n, all_n, all_n, w, u, H, turn, BB * K, N, RESIDENT, BH, BB, K, KS, PRECISION
            )
            d_r = left * seen * r * (1 - r)
            e_r = d_r.to(dgx.dtype.element_ty)
            all_r = e_r
            if TELLS:
                tl.store(turn + tell, e_r)
                arrive(count)
            put(dgx + of_x, H, e_r, e_z, e_n, real)
        else:
            d_r, d_q = d_n * by_r * r * (1 - r), d_n * r
            e_r, e_z, e_n = d_r, d_z, d_q
            if FORM == NORMED:
                at = sums + (2 * piece + i % 2) * PARTS * 2 * BB
                e_r, e_z, e_n = _through_norm(
                    d_r, d_z, d_q, h_r, h_z, q, g_r, g_z, g_n, scale, at, count, (i * ROUNDS + 1) * PARTS, part, u, H,
                    BH, BB, PARTS, PEERS,
                )  # fmt: skip
                e_r, e_z, e_n = tl.where(real, e_r, 0), tl.where(real, e_z, 0), tl.where(real, e_n, 0)
                tl.store(dq + (d.to(tl.int64) * rows + row) * H + u[:, None], d_q.to(dq.dtype.element_ty), mask=real)
            e_r, e_z, e_n = e_r.to(dgh.dtype.element_ty), e_z.to(dgh.dtype.element_ty), e_n.to(dgh.dtype.element_ty)
            all_r, all_z, all_n = e_r, e_z, e_n
            if TELLS:
                put(turn + tell, BB * K, e_r, e_z, e_n, u[:, None] < K)
                arrive(count)
            to = dgx.dtype.element_ty
            put(dgx + of_x, H, d_r.to(to), d_z.to(to), d_n.to(to), real)
            put(dgh + of_h, H, e_r, e_z, e_n, real)
        later = t - 1 + 2 * back  # asked for now, used in the next round
        (
            next_real, next_row, next_x_r, next_x_z, next_x_n, next_h_r, next_h_z, next_q, next_h, next_c, next_anew,
            next_m, next_scale,
        ) = _saved(
            gx, gh, before, dy, zoneout, resets, inverse, begin, starts, later, back, step, steps, length, there, u, d,
            D, H, rows, HAS_RESETS, ZONEOUT, HAS_TIME, FORM,
        )  # fmt: skip
        if TELLS:
            wait(count, (i * ROUNDS + ROUNDS) * PARTS)
            if RESIDENT:
                all_r, all_z = told(turn, BB, K, KS), told(turn + BB * K, BB, K, KS)
                if FORM != BEFORE:
                    all_n = told(turn + 2 * BB * K, BB, K, KS)
        if FORM == BEFORE:
            dseen = r * left + state_product(
                w_r, w_z, w_n, all_r, all_z, all_r, w, u, H, turn, BB * K, R | Z, RESIDENT, BH, BB, K, KS, PRECISION
            )
        else:
            dseen = state_product(
                w_r, w_z, w_n, all_r, all_z, all_n, w, u, H, turn, BB * K, ALL, RESIDENT, BH, BB, K, KS, PRECISION
            )
        if HAS_RECURRENT:
            dseen = dseen * mask
        dh = tl.where(real, kept + given * z + dseen, dh)
        if HAS_RESETS:
            dstart += tl.where(anew, dh, 0)
            dh = tl.where(anew, 0, dh)
        between = t + back  # the state between steps between - 1 and between
        is_cut = (tbptt > 0) & (between > 0) & (between % tl.maximum(tbptt, 1) == 0) & (between < length)
        dh = tl.where(is_cut[None, :], 0, dh)
        x_r, x_z, x_n, h_r, h_z, q, h, c = next_x_r, next_x_z, next_x_n, next_h_r, next_h_z, next_q, next_h, next_c
        anew, m, scale, t, real, row = next_anew, next_m, next_scale, later, next_real, next_row
    tl.store(dh0 + own, dh.to(dh0.dtype.element_ty), mask=there)
    tl.store(dinitial + own, dstart.to(dinitial.dtype.element_ty), mask=there)
