"""What the tests of a policy share."""

import pytest

from lerobot_policy_dap import modeling_dap


@pytest.fixture
def asked(monkeypatch):
    """What `flow_losses` was called with, and what it answered."""
    calls = []
    flow_losses = modeling_dap.flow_losses

    def spy(*args, **kwargs):
        losses = flow_losses(*args, **kwargs)
        calls.append((args, kwargs, losses))
        return losses

    monkeypatch.setattr(modeling_dap, "flow_losses", spy)
    return calls
