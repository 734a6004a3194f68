"""DAP, dynamics-aligned flow matching policies for LeRobot, and a bench for robustness to visual shift.

LeRobot imports this package because its distribution name starts with `lerobot_policy_`; the import registers
`--policy.type=dap` and `dap_remote`, `--env.type=metaworld_shift` and `--robot.type=metaworld_sim`.
"""

import sys
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_dap import DAPConfig
    from .worlds.configuration_env import MetaworldShiftEnvConfig

__version__ = version("lerobot_policy_dap")
__all__ = ["DAPConfig", "MetaworldShiftEnvConfig", "__version__", "register"]


def register() -> None:
    """Makes LeRobot know policies, environment and robot; importing the package does it."""
    from .configuration_dap import DAPConfig
    from .runtime import configuration_remote  # noqa: F401 - to be registered
    from .worlds import config_robot  # noqa: F401 - to be registered
    from .worlds.configuration_env import MetaworldShiftEnvConfig

    globals().update(DAPConfig=DAPConfig, MetaworldShiftEnvConfig=MetaworldShiftEnvConfig)


def __getattr__(name: str) -> Any:
    if name in ("DAPConfig", "MetaworldShiftEnvConfig"):
        register()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _for_a_client() -> bool:
    """Whether the import under way is of `runtime.client` or `runtime.player`, in a program without LeRobot.

    What runs on a robot's computer needs neither LeRobot nor torch, and they take ten seconds to import. Python
    imports a package before its module, and tells the package nothing of that: the name stands in its own frames.
    """
    if "lerobot" in sys.modules:
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_find_and_load" and str(frame.f_locals.get("name")) in _LIGHT:
            return True
        frame = frame.f_back
    return False


_LIGHT = tuple(f"{__name__}.runtime.{module}" for module in ("client", "player"))

# LeRobot's configurations take seconds to import. Our own command answers `--help` and mistakes without them, and
# the verbs that need LeRobot register themselves; whoever else imports this package wants the registration.
if Path(sys.argv[0]).name != "dap" and not _for_a_client():
    register()
