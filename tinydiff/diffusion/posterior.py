"""The exact way back from t to an earlier s if x_0 were known, and the range in which a network may learn its variance.

Bayes' rule gives a Gaussian (Ho et al. 2020, arXiv 2006.11239, equations 6 and 7; for any alpha and sigma: Kingma et al. 2021, arXiv
2107.00630, appendix A):

    q(x_s | x_t, x_0) = N(mean, beta_tilde)
    mean       = alpha_{t|s} sigma_s^2 / sigma_t^2  x_t  +  alpha_s beta / sigma_t^2  x_0
    beta       = sigma_t^2 - alpha_{t|s}^2 sigma_s^2          the noise that the forward process adds between s and t
    beta_tilde = beta sigma_s^2 / sigma_t^2                   with alpha_{t|s} = alpha_t / alpha_s

Why: between s and t the forward process makes x_t = alpha_{t|s} x_s + sqrt(beta) z, and with x_s = alpha_s x_0 + sigma_s eps this must be
alpha_t x_0 and noise of variance sigma_t^2. That gives alpha_{t|s} and beta. By Bayes' rule q(x_s | x_t, x_0) is q(x_s | x_0) q(x_t | x_s) but
for a factor without x_s, so, up to a constant, -2 log of it is

    (x_s - alpha_s x_0)^2 / sigma_s^2  +  (x_t - alpha_{t|s} x_s)^2 / beta

a square in x_s, and the distribution is Gaussian. A Gaussian has (x_s - mean)^2 / beta_tilde there. Compare what multiplies x_s^2, and -2 x_s:

    1 / beta_tilde    = 1 / sigma_s^2 + alpha_{t|s}^2 / beta = (beta + alpha_{t|s}^2 sigma_s^2) / (sigma_s^2 beta) = sigma_t^2 / (sigma_s^2 beta)
    mean / beta_tilde = alpha_s x_0 / sigma_s^2 + alpha_{t|s} x_t / beta

Checked by `tests/diffusion/test_posterior.py::test_posterior_is_bayes_rule`, and against the papers' betas by
`tests/diffusion/test_posterior.py::test_single_steps_have_the_papers_betas`.

The best variance of a network's step lies between beta_tilde, right where x_0 is known, and beta, right where x_0 is noise itself. So a
network with learned variance answers with a number v in [-1, 1] for each number of the picture, and is taken to mean the fraction
(v + 1)/2 of the way from log beta_tilde to log beta (Nichol and Dhariwal 2021, arXiv 2102.09672, equation 15).

Read first: `forward.py`.
"""
import numpy as np


def posterior(schedule, t, s):
    """(alpha_s beta / sigma_t^2, beta, beta_tilde): what x_0 counts for in the mean, and the two variances. t > s >= -1, numbers or (N,)."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (map(np.asarray, schedule.at(time)) for time in (t, s))
    beta = sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2
    return alpha_s * beta / sigma_t**2, beta, beta * sigma_s**2 / sigma_t**2


def log_variance_range(schedule, t, s):
    """The pair (log beta_tilde, log beta) for the step from t to s: numbers, or (N,) as t and s are. float64.

    A step to the clean end, s = -1, has beta_tilde = 0: the equally long step before it, to t and not from it, lends its own, as index 1
    does for index 0 in the paper's code. At T-1 there is none before, and both are log beta. Raises ValueError unless s < t.
    """
    t, s = np.asarray(t, dtype=np.float64), np.asarray(s, dtype=np.float64)
    if np.any(s >= t):
        raise ValueError(f"log_variance_range: a step goes down, from t to s < t, but got t = {t} and s = {s}")
    _, beta, _ = posterior(schedule, t, s)
    lent = (s == -1) & (t < schedule.T - 1)
    before = np.minimum(t + (t - s), schedule.T - 1)
    _, _, beta_tilde = posterior(schedule, np.where(lent, before, t), np.where(lent, t, s))
    return np.log(np.where(beta_tilde > 0, beta_tilde, beta)), np.log(beta)
