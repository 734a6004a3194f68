"""DAP, dynamics-aligned flow matching policies for LeRobot, and a bench for robustness to visual shift.

LeRobot imports this package because its distribution name starts with `lerobot_policy_`; the import registers
`--policy.type=dap` and `--env.type=metaworld_shift`.
"""

from importlib.metadata import version

from .configuration_dap import DAPConfig
from .worlds.configuration_env import MetaworldShiftEnvConfig

__version__ = version("lerobot_policy_dap")
__all__ = ["DAPConfig", "MetaworldShiftEnvConfig", "__version__"]
