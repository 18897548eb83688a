"""Plain definitions of the kernels: loops and einsum, in float64, straight from the formulas, sharing no code with what they check.

Gradients are written as the Jacobian's transpose times dy, with the Jacobian of each group or token spelt out: slow, and hard to get wrong.
"""
import math

import numpy as np


def f64(*arrays):
    return [None if a is None else np.asarray(a, np.float64) for a in arrays]


def windows(x, kernel_size, stride, padding):
    """Each output pixel (i, j) with the slices of the padded picture that it looks at."""
    for i in range((x.shape[1] - kernel_size[0]) // stride + 1):
        for j in range((x.shape[2] - kernel_size[1]) // stride + 1):
            yield i, j, (slice(None), slice(i * stride, i * stride + kernel_size[0]), slice(j * stride, j * stride + kernel_size[1]))


def padded(x, padding):
    return np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def conv2d(x, w, bias=None, stride=1, padding=0, residual=None):
    x, w, bias, residual = f64(x, w, bias, residual)
    (N, H, W, _), (KH, KW, _, F) = x.shape, w.shape
    y = np.zeros((N, (H + 2 * padding - KH) // stride + 1, (W + 2 * padding - KW) // stride + 1, F))
    x = padded(x, padding)
    for i, j, window in windows(x, (KH, KW), stride, padding):
        y[:, i, j] = np.einsum("nhwc,hwcf->nf", x[window], w) + (0 if bias is None else bias)
    return y if residual is None else np.add(y, residual)


def conv2d_dx(dy, w, size, stride=1, padding=0, so_far=None):
    dy, w, so_far = f64(dy, w, so_far)
    dx = padded(np.zeros((len(dy), *size, w.shape[2])), padding)
    for i, j, window in windows(dx, w.shape[:2], stride, padding):
        dx[window] += np.einsum("nf,hwcf->nhwc", dy[:, i, j], w)
    dx = dx[:, padding:padding + size[0], padding:padding + size[1]]
    return dx if so_far is None else np.add(dx, so_far)


def conv2d_dw(x, dy, kernel_size, stride=1, padding=0):
    x, dy = f64(x, dy)
    dw = np.zeros((*kernel_size, x.shape[3], dy.shape[3]))
    x = padded(x, padding)
    for i, j, window in windows(x, kernel_size, stride, padding):
        dw += np.einsum("nhwc,nf->hwcf", x[window], dy[:, i, j])
    return dw


def doubled(x):
    """Each pixel twice, both ways."""
    return np.array([[[x[n, h // 2, w // 2] for w in range(2 * x.shape[2])] for h in range(2 * x.shape[1])] for n in range(len(x))])


def upsample_conv2d(x, w, bias=None):
    return conv2d(doubled(x), w, bias, 1, 1)


def upsample_conv2d_dx(dy, w, so_far=None):
    large = conv2d_dx(dy, w, dy.shape[1:3], 1, 1)
    dx = large[:, ::2, ::2] + large[:, 1::2, ::2] + large[:, ::2, 1::2] + large[:, 1::2, 1::2]
    return dx if so_far is None else np.add(dx, so_far)


def upsample_conv2d_dw(x, dy):
    return conv2d_dw(doubled(x), dy, (3, 3), 1, 1)


def pixel_sum(dy):
    return np.einsum("nhwf->nf", *f64(dy))


def matmul(a, b):
    return np.einsum("...mk,...kp->...mp", *f64(a, b))


def group_norm(xs, weight, bias, groups, eps=1e-5, act=None):
    x = concat_channels(xs)
    x, weight, bias = f64(x, weight, bias)
    N, C = x.shape[0], x.shape[-1]
    y, mean, rstd = np.empty_like(x), np.empty((N, groups)), np.empty((N, groups))
    for n in range(N):
        for g in range(groups):
            channels = slice(g * C // groups, (g + 1) * C // groups)
            part = x[n, ..., channels]
            mean[n, g] = part.mean()
            rstd[n, g] = 1 / math.sqrt(((part - part.mean()) ** 2).mean() + eps)
            y[n, ..., channels] = (part - mean[n, g]) * rstd[n, g] * weight[channels] + bias[channels]
    return (silu(y) if act == "silu" else y), mean, rstd


def group_norm_backward(dy, xs, weight, bias, mean, rstd, act=None, so_far=None):
    x = concat_channels(xs)
    dy, x, weight, bias, mean, rstd = f64(dy, x, weight, bias, mean, rstd)
    N, C = x.shape[0], x.shape[-1]
    groups = mean.shape[1]
    dx, dweight, dbias = np.empty_like(x), np.zeros(C), np.zeros(C)
    for n in range(N):
        for g in range(groups):
            channels = slice(g * C // groups, (g + 1) * C // groups)
            x_hat = (x[n, ..., channels] - mean[n, g]) * rstd[n, g]
            d = dy[n, ..., channels]
            if act == "silu":
                d = silu_backward(d, x_hat * weight[channels] + bias[channels])
            rows = tuple(range(d.ndim - 1))
            dweight[channels] += (d * x_hat).sum(axis=rows)
            dbias[channels] += d.sum(axis=rows)
            h, m = x_hat.ravel(), x_hat.size
            jacobian = rstd[n, g] * (np.eye(m) - 1 / m - np.outer(h, h) / m)        # d x_hat / d x, with the eps in rstd
            dx[n, ..., channels] = ((d * weight[channels]).ravel() @ jacobian).reshape(d.shape)
    dxs = split_channels(dx, [part.shape[-1] for part in xs])
    return [d if more is None else np.add(d, more) for d, more in zip(dxs, so_far or [None] * len(xs))], dweight, dbias


def attention(q, k, v):
    q, k, v = f64(q, k, v)
    scores = np.einsum("nhld,nhmd->nhlm", q, k) / math.sqrt(q.shape[-1])
    lse = np.log(np.exp(scores).sum(axis=-1))
    return np.einsum("nhlm,nhmd->nhld", np.exp(scores - lse[..., None]), v), lse


def attention_backward(do, q, k, v, o, lse):
    do, q, k, v = f64(do, q, k, v)
    scale = 1 / math.sqrt(q.shape[-1])
    scores = np.einsum("nhld,nhmd->nhlm", q, k) * scale
    p = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    jacobian = np.einsum("nhlm,mk->nhlmk", p, np.eye(p.shape[-1])) - np.einsum("nhlm,nhlk->nhlmk", p, p)     # of each row's softmax
    ds = np.einsum("nhld,nhmd,nhlmk->nhlk", do, v, jacobian) * scale
    return np.einsum("nhlm,nhmd->nhld", ds, k), np.einsum("nhlm,nhld->nhmd", ds, q), np.einsum("nhlm,nhld->nhmd", p, do)


def self_attention(qkv, heads):
    C = qkv.shape[2] // 3
    D = C // heads
    o, lse = np.empty((*qkv.shape[:2], C)), np.empty((len(qkv), heads, qkv.shape[1]))
    for h in range(heads):
        q, k, v = (qkv[:, None, :, part * C + h * D:part * C + (h + 1) * D] for part in range(3))       # (N,1,L,D)
        one, lse[:, h:h + 1] = attention(q, k, v)
        o[:, :, h * D:(h + 1) * D] = one[:, 0]
    return o, lse


def self_attention_backward(do, qkv, o, lse):
    N, heads, L = lse.shape
    C = qkv.shape[2] // 3
    D = C // heads
    dqkv = np.empty(qkv.shape)
    for h in range(heads):
        of_head = [slice(part * C + h * D, part * C + (h + 1) * D) for part in range(3)]
        gradients = attention_backward(do[:, None, :, of_head[0]], *(qkv[:, None, :, columns] for columns in of_head), None, None)
        for columns, gradient in zip(of_head, gradients):
            dqkv[:, :, columns] = gradient[:, 0]
    return dqkv


def silu(x):
    x, = f64(x)
    return x / (1 + np.exp(-x))


def silu_backward(dy, x):
    dy, x = f64(dy, x)
    s = 1 / (1 + np.exp(-x))
    return dy * (s + x * s * (1 - s))


def add(a, b):
    return np.asarray(np.frompyfunc(lambda x, y: x + y, 2, 1)(*f64(a, b)), np.float64)


def concat_channels(arrays):
    return np.stack([channel for array in f64(*arrays) for channel in np.moveaxis(array, -1, 0)], axis=-1)


def split_channels(x, sizes):
    channels = iter(np.moveaxis(np.asarray(x, np.float64), -1, 0))
    return [np.stack([next(channels) for _ in range(size)], axis=-1) for size in sizes]


def upsample(x, factor):
    N, H, W, C = x.shape
    return np.array([[[x[n, h // factor, w // factor] for w in range(W * factor)] for h in range(H * factor)] for n in range(N)], float)


def pool_sum(x, factor):
    N, H, W, C = x.shape
    y = np.zeros((N, H // factor, W // factor, C))
    for h in range(H):
        for w in range(W):
            y[:, h // factor, w // factor] += x[:, h, w]
    return y


def adamw_step(params, grads, ms, vs, emas, lr, beta1, beta2, eps, weight_decay, step, grad_scale, ema_decay):
    """New params, ms, vs, emas (Loshchilov and Hutter, 2019, arXiv 1711.05101, algorithm 2); unlike the kernel, it writes into nothing."""
    new = []
    for p, grad, m, v, ema in zip(params, grads, ms, vs, emas or params):
        p, grad, m, v, ema = f64(p, grad, m, v, ema)
        g = grad * grad_scale
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g ** 2
        m_hat, v_hat = m / (1 - beta1 ** step), v / (1 - beta2 ** step)
        p = p - lr * weight_decay * p - lr * m_hat / (np.sqrt(v_hat) + eps)
        new.append((p, m, v, ema_decay * ema + (1 - ema_decay) * p))
    params, ms, vs, averages = map(list, zip(*new))
    return params, ms, vs, averages if emas else None


def muon_step(params, grads, ms, emas, lr, momentum, weight_decay, grad_scale, ema_decay):
    """New params, ms, emas. The singular values are computed, and the polynomial is applied to these numbers (Jordan et al. 2024)."""
    new = []
    for p, grad, m, ema in zip(params, grads, ms, emas or params):
        p, grad, m, ema = f64(p, grad, m, ema)
        m = momentum * m + (1 - momentum) * grad_scale * grad
        u = (momentum * m + (1 - momentum) * grad_scale * grad).reshape(-1, p.shape[-1])
        U, s, V = np.linalg.svd(u, full_matrices=False)
        s = s / (np.sqrt((s ** 2).sum()) + 1e-7)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s ** 3 + 2.0315 * s ** 5
        step = 0.2 * max(u.shape) ** 0.5 * (U * s @ V).reshape(p.shape)
        p = p - lr * weight_decay * p - lr * step
        new.append((p, m, ema_decay * ema + (1 - ema_decay) * p))
    params, ms, averages = map(list, zip(*new))
    return params, ms, averages if emas else None


def softmax(x):
    x, = f64(x)
    rows = [[math.exp(n) / math.fsum(map(math.exp, row)) for n in row] for row in x.reshape(-1, x.shape[-1])] if x.size else []
    return np.array(rows).reshape(x.shape)


def softmax_backward(dy, y):
    dy, y = f64(dy, y)
    return np.einsum("...i,ij,...j->...i", y, np.eye(y.shape[-1]), dy) - np.einsum("...i,...j,...j->...i", y, y, dy)


def picture_weights(a, weight):
    """One for each number of a, flat."""
    return [1.0] * a.size if weight is None else [float(w) for w in weight for _ in range(a.size // len(weight))]


def squared_error(a, b, weight=None):
    return math.fsum(w * (float(x) - float(y)) ** 2 for w, x, y in zip(picture_weights(a, weight), np.ravel(a), np.ravel(b)))


def scaled_difference(a, b, scale, weight=None):
    differences = [scale * w * (float(x) - float(y)) for w, x, y in zip(picture_weights(a, weight), np.ravel(a), np.ravel(b))]
    return np.array(differences).reshape(a.shape)


def squared_norm(grads):
    return math.fsum(float(n) ** 2 for grad in grads for n in np.ravel(grad))


PLAIN = {function.__name__: function for function in (
    conv2d, conv2d_dx, conv2d_dw, upsample_conv2d, upsample_conv2d_dx, upsample_conv2d_dw, pixel_sum,
    matmul, group_norm, group_norm_backward, attention, attention_backward, self_attention,
    self_attention_backward, silu, silu_backward, add, concat_channels, split_channels, upsample, pool_sum, softmax, softmax_backward, squared_error,
    scaled_difference, adamw_step, muon_step, squared_norm)}
