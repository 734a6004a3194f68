"""`python -m lerobot_policy_dap.cli`."""

from . import main

main()
