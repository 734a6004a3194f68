"""`--robot.type=metaworld_sim`: a simulated arm for LeRobot's own tools.

LeRobot looks for the robot of a configuration in a module named like this one without `config_`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lerobot.robots import RobotConfig

from .rendering import RenderSettings
from .shifts import CLEAN, check_shift
from .tasks import resolve_task
from .world import check_cameras


@RobotConfig.register_subclass("metaworld_sim")
@dataclass(kw_only=True)
class MetaworldSimConfig(RobotConfig):
    """A Meta-World task that behaves like an arm on the table.

    Raises:
        UserError: an option names nothing that exists.
    """

    task: str = "drawer-open"
    camera_name: str = "corner2"
    """One camera or several, separated by commas."""
    image_size: int = 84
    """Side of the square frames in pixels."""
    shift: str = CLEAN
    severity: int = 0
    """0 (untouched) to 5."""
    seed: int = 10_000
    """Of the first episode; each later one has the next seed. Demonstrations start at 0."""
    episodes_file: Path | None = None
    """Where a JSON line is added when an episode ends: its seed, its steps, and the step of its success."""
    samples: int = 0
    shadows: bool = False
    reflections: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.task = resolve_task(self.task)
        check_shift(self.shift, self.severity)
        self.camera_names = check_cameras([c.strip() for c in self.camera_name.split(",") if c.strip()])
        self.settings = RenderSettings(
            self.image_size, self.image_size, self.samples, self.shadows, self.reflections
        )
