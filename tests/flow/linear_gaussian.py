"""A world in which everything is known: a ~ N(m, σ²), s = c·a + N(0, ρ²), one number each.

Action and outcome x = (a, s) are jointly Gaussian with mean μ and covariance Σ. On the straight path
x_t = t·ε + (1 - t)·x has covariance M = t²I + (1 - t)²Σ, so that

    E[x | x_t] = μ + (1 - t)·Σ·M⁻¹·(x_t - (1 - t)·μ)        Cov[ε - x | x_t] = Σ·M⁻¹

(the second from ε - x = (x_t - x)/t and Cov[x | x_t] = Σ - (1 - t)²ΣM⁻¹Σ = t²ΣM⁻¹), and the flow of the velocity
E[ε - x | x_t] takes ε to μ + Σ^{1/2}·ε: Σ commutes with every M.
"""

import torch
from gaussians import Known


class LinearGaussian:
    def __init__(self, m=0.7, sigma=0.5, c=1.5, rho=0.3):
        self.mean = torch.tensor([m, c * m], dtype=torch.float64)
        self.covariance = torch.tensor(
            [[sigma**2, c * sigma**2], [c * sigma**2, c**2 * sigma**2 + rho**2]], dtype=torch.float64
        )

    def draw(self, n, generator=None):
        """Chunks `[n, 1, 1]` and outcomes `[n, 1]`."""
        x = self.mean + torch.randn(n, 2, dtype=torch.float64, generator=generator) @ self.root()
        return x[:, :1, None], x[:, 1:]

    def root(self):
        values, vectors = torch.linalg.eigh(self.covariance)
        return vectors @ values.sqrt().diag() @ vectors.T

    def posterior(self, t):
        """Matrix P and offset q of E[x | x_t] = P·x_t + q, for one time or for `[n]` of them."""
        t = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1, 1)
        M = t**2 * torch.eye(2, dtype=torch.float64) + (1 - t) ** 2 * self.covariance
        P = (1 - t) * self.covariance @ torch.linalg.inv(M)
        return P, self.mean - (1 - t[:, :, 0]) * (P @ self.mean)

    def remaining(self, t):
        """Variance of the action's velocity given a_t alone, and given a_t and s_t, at times `[n]`."""
        t = t.reshape(-1, 1, 1)
        M = t**2 * torch.eye(2, dtype=torch.float64) + (1 - t) ** 2 * self.covariance
        alone = self.covariance[0, 0] / M[:, 0, 0]
        return alone, (self.covariance @ torch.linalg.inv(M))[:, 0, 0]

    def coupled(self):
        """Policy and dynamics that are right about each other: each reads the other's sample out of its estimate.

        Given a_t and ŝ = E[s | a_t, s_t], which is linear in s_t, the policy knows s_t and answers with
        E[ε - a | a_t, s_t]; likewise the dynamics given s_t and â. At t = 1 samples say nothing of each other.
        """

        def policy(a_t, t, s_hat):
            a_t, P, q = a_t.flatten(), *self.posterior(t)
            if s_hat is None:
                a_hat = self.mean[0].expand_as(a_t)
            else:
                s_t = (s_hat.flatten() - q[:, 1] - P[:, 1, 0] * a_t) / P[:, 1, 1]
                a_hat = P[:, 0, 0] * a_t + P[:, 0, 1] * s_t + q[:, 0]
            return ((a_t - a_hat) / t).reshape(-1, 1, 1)

        def dynamics(s_t, t, a_hat):
            s_t, P, q = s_t.flatten(), *self.posterior(t)
            if float(torch.as_tensor(t).max()) == 1:
                s_hat = self.mean[1].expand_as(s_t)
            else:
                a_t = (a_hat.flatten() - q[:, 0] - P[:, 0, 1] * s_t) / P[:, 0, 0]
                s_hat = P[:, 1, 0] * a_t + P[:, 1, 1] * s_t + q[:, 1]
            return ((s_t - s_hat) / t).reshape(-1, 1)

        return Known(policy), Known(dynamics)

    def informed(self):
        """A dynamics that knows no action, ŝ = E[s | s_t], and the policy that makes the most of it: E[ε - a | a_t, s_t]."""
        mean, variance = self.mean[1], self.covariance[1, 1]

        def slope(t):
            return (1 - t) * variance / (t**2 + (1 - t) ** 2 * variance)

        def dynamics(s_t, t, _):
            s_t = s_t.flatten()
            return ((s_t - mean - slope(t) * (s_t - (1 - t) * mean)) / t).reshape(-1, 1)

        def policy(a_t, t, s_hat):
            a_t, P, q = a_t.flatten(), *self.posterior(t)
            if s_hat is None:
                alone = self.covariance[0, 0]
                k = (1 - t) * alone / (t**2 + (1 - t) ** 2 * alone)
                a_hat = self.mean[0] + k * (a_t - (1 - t) * self.mean[0])
            else:
                s_t = (s_hat.flatten() - mean) / slope(t) + (1 - t) * mean
                a_hat = P[:, 0, 0] * a_t + P[:, 0, 1] * s_t + q[:, 0]
            return ((a_t - a_hat) / t).reshape(-1, 1, 1)

        return Known(policy), Known(dynamics)
