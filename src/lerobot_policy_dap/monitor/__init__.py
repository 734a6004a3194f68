"""Knows when a policy is lost: signals, scores, thresholds by conformal prediction (docs/monitor.md)."""
