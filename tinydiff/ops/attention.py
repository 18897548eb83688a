"""Scaled dot-product attention, on queries, keys and values, and on all three in one array, as self-attention makes them.

Each token (in a picture, a pixel) asks a question, its query q; each offers a label, its key k, and something to tell, its value v. How well a query
fits a key, q k^T, says how large a share of that value the asking token gets: in one step, each pixel hears from all others. A head is one such
conversation; several go on side by side, each on its own D of the channels.

Read first: `normalisation.py`.
"""
from tinydiff import kernels
from tinydiff.autograd import primitive
from tinydiff.ops.checks import expect, expect_int


@primitive
def attention(q, k, v):
    """o = softmax(q k^T / sqrt(D)) v for each picture and head (Vaswani et al., 2017, arXiv 1706.03762, equation 1).

    q (N, heads, L, D); k, v (N, heads, M, D) -> (N, heads, L, D). With p the softmax and ds = p (do v^T - sum(do o)):
    dv = p^T do, dq = ds k / sqrt(D), dk = ds^T q / sqrt(D). p (L x M numbers a head) is not kept but computed again from lse, the log of
    its denominators (Dao et al., 2022, arXiv 2205.14135, section 3.1). Derived in `kernels/attention.py`.
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        expect("attention", name, x, "N heads L D")
    shapes = f"(q {q.shape}, k {k.shape}, v {v.shape})"
    if k.shape != v.shape:
        raise ValueError(f"attention: k and v must have one shape {shapes}")
    if (q.shape[:2], q.shape[3]) != (k.shape[:2], k.shape[3]):
        raise ValueError(f"attention: q and k must agree in all but the third axis, the tokens {shapes}")
    o, lse = kernels.attention(q, k, v)

    def backward(do):
        return kernels.attention_backward(do, q, k, v, o, lse)
    return o, backward


@primitive
def self_attention(qkv, heads):
    """qkv (N, L, 3 C), each token's queries, keys and values, C numbers each -> (N, L, C).

    Head h of `attention` has the h-th C / heads of each. The heads are read and written where they lie: nothing is split or moved.
    """
    expect("self_attention", "qkv", qkv, "N L 3C")
    expect_int("self_attention", "heads", heads, 1)
    if qkv.shape[2] % (3 * heads) or not qkv.size:
        raise ValueError(f"self_attention: the last axis must be q, k and v of {heads} heads, a multiple of {3 * heads}, and no axis empty, "
                         f"got {qkv.shape}")
    o, lse = kernels.self_attention(qkv, heads)

    def backward(do):
        return (kernels.self_attention_backward(do, qkv, o, lse),)
    return o, backward
