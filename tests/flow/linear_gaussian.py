"""A world in which everything is known: a ~ N(m, σ²), s = c·a + N(0, ρ²), one number each.

Action and outcome x = (a, s) are jointly Gaussian with mean μ and covariance Σ. On the straight path
x_t = t·ε + (1 - t)·x has covariance M = t²I + (1 - t)²Σ, so that

    E[ε - x | x_t] = -μ + J·(x_t - (1 - t)·μ)        J = (t·I - (1 - t)·Σ)·M⁻¹        Cov[ε - x | x_t] = Σ·M⁻¹

(the last from ε - x = (x_t - x)/t and Cov[x | x_t] = Σ - (1 - t)²ΣM⁻¹Σ = t²ΣM⁻¹), and the flow of this velocity
takes ε to μ + Σ^{1/2}·ε: Σ commutes with every M. So all of it is done in the directions V of Σ, of variances λ.
"""

import torch
from gaussians import Known, column, gaussian_velocity

from lerobot_policy_dap.flow import Coupling, Seen, flow_losses


class LinearGaussian:
    def __init__(self, m=0.7, sigma=0.5, c=1.5, rho=0.3):
        self.c, self.sigma, self.rho = c, sigma, rho
        self.mean = torch.tensor([m, c * m], dtype=torch.float64)
        self.covariance = torch.tensor(
            [[sigma**2, c * sigma**2], [c * sigma**2, c**2 * sigma**2 + rho**2]], dtype=torch.float64
        )
        self.values, self.vectors = torch.linalg.eigh(self.covariance)
        self.spread = float(self.covariance[1, 1].sqrt())
        self.alone, self.ahead = gaussian_velocity(m, sigma), gaussian_velocity(c * m, self.spread)
        """E[ε - a | a_t] and E[ε - s | s_t]: neither knows the other's sample."""

    def draw(self, n, generator=None):
        """Chunks `[n, 1, 1]` and outcomes `[n, 1]`."""
        x = self.mean + torch.randn(n, 2, dtype=torch.float64, generator=generator) @ self.root()
        return x[:, :1, None], x[:, 1:]

    def losses(self, policy, dynamics, coupling, n, dtype=torch.float64, **options):
        """Of two models, over n chunks and what came of them; z is the mean chunk."""
        g = torch.Generator().manual_seed(0)
        action, outcome = self.draw(n, g)
        return flow_losses(
            policy,
            dynamics,
            coupling,
            self.mean[:1].expand(n, 1).to(dtype),
            action.to(dtype),
            outcome.to(dtype),
            action_is_pad=torch.zeros(n, 1, dtype=torch.bool),
            outcome_is_pad=torch.zeros(n, dtype=torch.bool),
            feedback_dropout=0.0,
            generator=g,
            **options,
        )

    def matrix(self, values):
        """The matrix with these values `[..., 2]` in the directions of Σ."""
        return (self.vectors * values.unsqueeze(-2)) @ self.vectors.T

    def root(self):
        return self.matrix(self.values.sqrt())

    def slopes(self, t):
        """J in the directions of Σ, for one time or for `[n, 1]`."""
        return (t - (1 - t) * self.values) / (t**2 + (1 - t) ** 2 * self.values)

    def velocity(self, a_t, s_t, t):
        """E[ε - a | a_t, s_t] and E[ε - s | a_t, s_t]."""
        x_t = torch.cat([a_t.flatten(1), s_t], dim=1)
        t = column(t, x_t)
        away = x_t - (1 - t) * self.mean
        v = (away @ self.vectors * self.slopes(t)) @ self.vectors.T - self.mean
        return v[:, :1, None], v[:, 1:]

    def estimate(self, a_t, s_t, t):
        """E[a | a_t, s_t] and E[s | a_t, s_t]."""
        v, u = self.velocity(a_t, s_t, t)
        return a_t - column(t, a_t) * v, s_t - column(t, s_t) * u

    def remaining(self):
        """What no model can know: the variances of ε - a and ε - s given one's own sample, and given both, and of ε - s
        given s_t and the real chunk; each in the mean over t."""
        t = torch.linspace(0, 1, 2001, dtype=torch.float64).unsqueeze(-1)

        def mean(variances):
            return torch.trapezoid(variances / (t**2 + (1 - t) ** 2 * variances), t, dim=0)

        both = self.matrix(mean(self.values)).diag()
        return mean(self.covariance.diag()).tolist(), both.tolist(), float(mean(torch.tensor([self.rho**2])))

    def policy(self, said=None):
        """E[ε - a | a_t], and E[ε - a | a_t, s_t] once it is shown ŝ = said(a_t, s_t, t): that tells it s_t."""

        def velocity(a_t, t, s_hat):
            if s_hat is None or said is None:
                return self.alone(a_t, t)
            return self.velocity(a_t, solve(lambda s_t: said(a_t, s_t, t), s_hat), t)[0]

        return Known(velocity)

    def dynamics(self, shown=None):
        """E[ε - s | s_t], or E[ε - s | a_t, s_t] where â = shown(a_t, s_t, t) tells it a_t; of a real chunk, E[ε - s | a, s_t]."""

        def velocity(s_t, t, chunk, seen_at):
            if chunk is not None and not seen_at.any():
                return self.caused(chunk)(s_t, t)
            if shown is None:
                return self.ahead(s_t, t)
            return self.velocity(solve(lambda a_t: shown(a_t, s_t, t), chunk), s_t, t)[1]

        return Known(velocity, timed=True)

    def caused(self, chunk):
        """E[ε - s | a, s_t]."""
        return gaussian_velocity(self.c * chunk.flatten(1), self.rho)

    def guess(self, a_t, s_t, t):
        """E[a | a_t]."""
        return a_t - column(t, a_t) * self.alone(a_t, t)

    def second(self, a_t, s_t, t):
        """E[a | a_t, s_t]."""
        return self.estimate(a_t, s_t, t)[0]

    def optimal(self, coupling):
        """The two models with the least losses, if no feedback is dropped.

        The policy knows ŝ from the first pass, in which the dynamics is told E[a | a_t], and takes it for an estimate
        of the second. A draft says nothing of the chunk, nor does another row's ŝ.
        """
        hears = coupling.feeds_policy and coupling is not Coupling.SHUFFLED
        told = coupling.dynamics_sees is Seen.ESTIMATE
        dynamics = self.dynamics(self.second if told and hears else self.guess if told else None)

        def said(a_t, s_t, t):
            return s_t - column(t, s_t) * dynamics.velocity(s_t, t, self.guess(a_t, s_t, t), torch.ones(1))

        return self.policy(said if hears else None), dynamics

    def solitary(self, coupling):
        """Which of action (0) and outcome (1) do not hear of the other in a generation of these, and their spread."""
        if coupling in (Coupling.AGNOSTIC, Coupling.ONE_WAY):
            return {1: self.spread}
        return {} if coupling is Coupling.TWO_WAY else {0: self.sigma}

    def coupled(self):
        """Policy and dynamics that are right about each other in every step of a generation."""
        return self.policy(lambda *x: self.estimate(*x)[1]), self.dynamics(self.second)

    def credulous(self):
        """A dynamics that takes the draft, E[a], for the chunk, and the policy that makes the most of it."""

        def said(a_t, s_t, t):
            return s_t - column(t, s_t) * self.caused(self.mean[:1].expand_as(s_t))(s_t, t)

        return self.policy(said), Known(lambda s_t, t, chunk: self.caused(chunk)(s_t, t))

    def from_noise(self):
        """The two with the least losses where the dynamics sees noise alone: E[ε - a | a_t], and ε - c·â for E[ε - s | â]."""
        return self.policy(), Known(lambda s_t, t, chunk: s_t - self.c * chunk.flatten(1))

    def flow(self, solitary=(), steps=400):
        """The matrix that takes ε to x - μ in the flow of the joint, by Runge and Kutta's fourth order; one who is
        `solitary` follows its own marginal, of that standard deviation."""

        def slope(t):
            J = self.matrix(self.slopes(t))
            for i, std in dict(solitary).items():
                J[i] = 0
                J[i, i] = gaussian_velocity(0.0, std)(torch.ones(1, dtype=torch.float64), t)
            return J

        x, h = torch.eye(2, dtype=torch.float64), -1 / steps
        for k in range(steps):
            t = 1 + k * h
            k1 = slope(t) @ x
            k2 = slope(t + h / 2) @ (x + h / 2 * k1)
            k3 = slope(t + h / 2) @ (x + h / 2 * k2)
            k4 = slope(t + h) @ (x + h * k3)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return x


def solve(affine, value):
    """Where an affine function has this value, element by element; 0 where it is constant."""
    low, high = affine(torch.zeros_like(value)), affine(torch.ones_like(value))
    return ((value - low) / (high - low)).nan_to_num(0, 0, 0)
