"""DAP, dynamics-aligned flow matching policies for LeRobot, and a bench for robustness to visual shift.

LeRobot imports this package because its distribution name starts with `lerobot_policy_`; the import registers
`--policy.type=dap` and `--env.type=metaworld_shift`.
"""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_dap import DAPConfig
    from .worlds.configuration_env import MetaworldShiftEnvConfig

__version__ = version("lerobot_policy_dap")
__all__ = ["DAPConfig", "MetaworldShiftEnvConfig", "__version__", "register"]


def register() -> None:
    """Makes LeRobot know the policy and the environment; importing the package does it."""
    from .configuration_dap import DAPConfig
    from .worlds.configuration_env import MetaworldShiftEnvConfig

    globals().update(DAPConfig=DAPConfig, MetaworldShiftEnvConfig=MetaworldShiftEnvConfig)


def __getattr__(name: str) -> Any:
    if name in ("DAPConfig", "MetaworldShiftEnvConfig"):
        register()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# LeRobot's configurations take seconds to import. Our own command answers `--help` and mistakes without them, and
# the verbs that need LeRobot register themselves; whoever else imports this package wants the registration.
if Path(sys.argv[0]).name != "dap":
    register()
