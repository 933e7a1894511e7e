"""What both kernels are made of: places, weights, products, and the barrier between the CTAs of a batch slice.

A CTA has BH units u of BB sequences. Tiles are [BH, BB], transposed, so that a small batch wastes nothing of a product

    gh [BH, BB] = W [BH, K] v [K, BB]

K >= H is its width. RESIDENT: the CTA's rows of W are loaded once and stay in shared memory; with KS > 1 each of KS
parts of K has warps of its own, and they are summed last. Otherwise W comes from L2 at every step, KS columns at once.

With PARTS > 1 the CTAs of a slice tell one another through `exchange` what enters a product. All must be there at once:
the launch is a cooperative one. Slices never wait for one another.
"""

import triton
import triton.language as tl

AFTER, BEFORE, NORMED = (tl.constexpr(i) for i in range(3))  # FORM: reset_after, the original cell, layer norm
NO_ZONEOUT, FACTOR, MASK = (tl.constexpr(i) for i in range(3))  # ZONEOUT: none, one number for all, a mask
R, Z, N = (tl.constexpr(1 << i) for i in range(3))  # GATES
ALL = tl.constexpr(7)


@triton.jit
def arrive(arrived):
    """What this CTA has stored is seen by whoever waits for it."""
    tl.debug_barrier()  # all threads' stores are before the release
    tl.atomic_add(arrived, 1, sem="release", scope="gpu")


@triton.jit
def wait(arrived, target):
    """Until the CTAs of the slice have arrived `target` times. Compiled, the addition of 0 is `ld.acquire.gpu`."""
    while tl.atomic_add(arrived, 0, sem="acquire", scope="gpu") < target:
        pass
    tl.debug_barrier()  # all threads' loads are after the acquire


@triton.jit
def place(cta, order, first, lengths, B, H, D, BH: tl.constexpr, BB: tl.constexpr, PARTS: tl.constexpr):
    """Whose a CTA is: its piece (a slice's direction) and part, d, units, and of its sequences b the rows and lengths.

    The sequences stand from the longest to the shortest, and the first CTAs have the longest.
    """
    piece, part = cta // PARTS, cta % PARTS
    d = piece % D
    u = part * BH + tl.arange(0, BH)
    p = piece // D * BB + tl.arange(0, BB)
    b = tl.load(order + p, mask=p < B, other=0)[None, :]
    begin = tl.load(first + p, mask=p < B, other=0)[None, :]
    length = tl.load(lengths + p, mask=p < B, other=0)
    there = (u < H)[:, None] & (p < B)[None, :]
    own = (d.to(tl.int64) * B + b) * H + u[:, None]  # where they lie in a [D, B, H]
    return piece, part, d, u, there, own, begin, length


@triton.jit
def row_of(begin, starts, t, step, steps, HAS_TIME: tl.constexpr):
    """The row [1, BB] of step t of each sequence: begin + starts[t], or begin + t * step."""
    if HAS_TIME:
        return begin + tl.load(starts + t, mask=(t >= 0) & (t < steps), other=0)
    return begin + t.to(tl.int64) * step


@triton.jit
def reset_of(resets, begin, starts, t, step, steps, length, HAS_TIME: tl.constexpr):
    """Whether [1, BB] there is a reset between steps t - 1 and t, where step t exists."""
    row = row_of(begin, starts, t, step, steps, HAS_TIME)
    return tl.load(resets + row, mask=((t >= 0) & (t < length))[None, :], other=0) != 0


@triton.jit
def three(base, at, H, there):
    """The gates' tiles, H apart, in float32."""
    r, z = tl.load(base + at, mask=there, other=0), tl.load(base + at + H, mask=there, other=0)
    return r.to(tl.float32), z.to(tl.float32), tl.load(base + at + 2 * H, mask=there, other=0).to(tl.float32)


@triton.jit
def put(at, apart, r, z, n, there):
    """The gates' tiles, `apart` from one another."""
    tl.store(at, r, mask=there)
    tl.store(at + apart, z, mask=there)
    tl.store(at + 2 * apart, n, mask=there)


@triton.jit
def tanh(x):
    """In terms of the sigmoid: Triton's interpreter has no other."""
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def weights(w, u, H, K: tl.constexpr, KS: tl.constexpr, BACK: tl.constexpr):
    """Rows u (BACK: columns u) of W_r, W_z and W_n: [BH, K], or [KS, BH, K / KS]."""
    if KS == 1:
        u, k = u[:, None], tl.arange(0, K)[None, :]
    else:
        u, k = u[None, :, None], tl.arange(0, KS)[:, None, None] * (K // KS) + tl.arange(0, K // KS)[None, None, :]
    at = w + (k * H + u if BACK else u * H + k)
    there = (u < H) & (k < H)
    w_r, w_z = tl.load(at, mask=there, other=0), tl.load(at + H * H, mask=there, other=0)
    return w_r, w_z, tl.load(at + 2 * H * H, mask=there, other=0)


@triton.jit
def told(exchange, BB: tl.constexpr, K: tl.constexpr, KS: tl.constexpr):
    """What the CTAs of a slice have told, past the L1 cache: [K, BB], or [KS, K / KS, BB]."""
    if KS == 1:
        at = tl.arange(0, BB)[None, :] * K + tl.arange(0, K)[:, None]
    else:
        k = tl.arange(0, KS)[:, None, None] * (K // KS) + tl.arange(0, K // KS)[None, :, None]
        at = tl.arange(0, BB)[None, None, :] * K + k
    return tl.load(exchange + at, cache_modifier=".cg")


@triton.jit
def _chunk(w, u, H, k, BACK: tl.constexpr):
    """Rows (BACK: columns) u and columns k of one gate's W: [BH, KS]."""
    at = w + (k[None, :] * H + u[:, None] if BACK else u[:, None] * H + k[None, :])
    return tl.load(at, mask=(u < H)[:, None] & (k < H)[None, :], other=0)


@triton.jit
def _add(a, b, c, d, e, f):
    return a + d, b + e, c + f


@triton.jit
def gate_products(
    w_r, w_z, w_n, v, w, u, H, told_at, GATES: tl.constexpr, RESIDENT: tl.constexpr,
    BH: tl.constexpr, BB: tl.constexpr, K: tl.constexpr, KS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """W v [BH, BB] of each of GATES; of the others zeros. RESIDENT: of w_r w_z w_n and v; else of w and at told_at."""
    r, z, n = tl.zeros((BH, BB), tl.float32), tl.zeros((BH, BB), tl.float32), tl.zeros((BH, BB), tl.float32)
    if RESIDENT and KS == 1:
        if GATES & R:
            r = tl.dot(w_r, v, input_precision=PRECISION)
        if GATES & Z:
            z = tl.dot(w_z, v, input_precision=PRECISION)
        if GATES & N:
            n = tl.dot(w_n, v, input_precision=PRECISION)
    elif RESIDENT:
        if GATES == ALL:
            parts = (
                tl.dot(w_r, v, input_precision=PRECISION),
                tl.dot(w_z, v, input_precision=PRECISION),
                tl.dot(w_n, v, input_precision=PRECISION),
            )
            r, z, n = tl.reduce(parts, 0, _add)
        else:
            if GATES & R:
                r = tl.sum(tl.dot(w_r, v, input_precision=PRECISION), axis=0)
            if GATES & Z:
                z = tl.sum(tl.dot(w_z, v, input_precision=PRECISION), axis=0)
            if GATES & N:
                n = tl.sum(tl.dot(w_n, v, input_precision=PRECISION), axis=0)
    else:
        for c in tl.range(0, K, KS, num_stages=3):
            k = c + tl.arange(0, KS)
            some = tl.load(told_at + tl.arange(0, BB)[None, :] * K + k[:, None], cache_modifier=".cg")
            if GATES & R:
                r = tl.dot(_chunk(w, u, H, k, False), some, r, input_precision=PRECISION)
            if GATES & Z:
                z = tl.dot(_chunk(w + H * H, u, H, k, False), some, z, input_precision=PRECISION)
            if GATES & N:
                n = tl.dot(_chunk(w + 2 * H * H, u, H, k, False), some, n, input_precision=PRECISION)
    return r, z, n


@triton.jit
def state_product(
    w_r, w_z, w_n, v_r, v_z, v_n, w, u, H, told_at, apart, GATES: tl.constexpr, RESIDENT: tl.constexpr,
    BH: tl.constexpr, BB: tl.constexpr, K: tl.constexpr, KS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The sum of W^T v [BH, BB] over GATES, each with a v of its own; at told_at they are `apart` from one another."""
    if RESIDENT:
        if KS == 1:
            found = tl.zeros((BH, BB), tl.float32)
        else:
            found = tl.zeros((KS, BH, BB), tl.float32)
        if GATES & R:
            found = tl.dot(w_r, v_r, found, input_precision=PRECISION)
        if GATES & Z:
            found = tl.dot(w_z, v_z, found, input_precision=PRECISION)
        if GATES & N:
            found = tl.dot(w_n, v_n, found, input_precision=PRECISION)
        if KS > 1:
            found = tl.sum(found, axis=0)
    else:
        found = tl.zeros((BH, BB), tl.float32)
        for c in tl.range(0, K, KS, num_stages=3):
            k = c + tl.arange(0, KS)
            at = told_at + tl.arange(0, BB)[None, :] * K + k[:, None]
            if GATES & R:
                some = tl.load(at, cache_modifier=".cg")
                found = tl.dot(_chunk(w, u, H, k, True), some, found, input_precision=PRECISION)
            if GATES & Z:
                some = tl.load(at + apart, cache_modifier=".cg")
                found = tl.dot(_chunk(w + H * H, u, H, k, True), some, found, input_precision=PRECISION)
            if GATES & N:
                some = tl.load(at + 2 * apart, cache_modifier=".cg")
                found = tl.dot(_chunk(w + 2 * H * H, u, H, k, True), some, found, input_precision=PRECISION)
    return found


@triton.jit
def merged(sums, one, other, part, H, BH: tl.constexpr, BB: tl.constexpr, PARTS: tl.constexpr, PEERS: tl.constexpr):
    """Two numbers [BB] of each part of a slice, at sums [PARTS, 2, BB]: those of all parts, and their counts."""
    p = tl.arange(0, PEERS)[:, None]
    at = sums + p * 2 * BB + tl.arange(0, BB)[None, :]
    count = tl.where(p < PARTS, 3 * tl.minimum(BH, H - p * BH), 0).to(tl.float32)
    ones = tl.load(at, mask=p < PARTS, other=0, cache_modifier=".cg")
    return ones, tl.load(at + BB, mask=p < PARTS, other=0, cache_modifier=".cg"), count
