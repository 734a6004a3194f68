"""The guide's simulated arm: driven through a server by an untrained policy, with a recording that a browser shows."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from lerobot.configs import FeatureType, PolicyFeature
from small_policies import save_checkpoint, serving

from pages import listen

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


def test_an_arm_that_fails_leaves_no_thread_behind(monkeypatch):
    import drive_metaworld

    class Broken:
        def __init__(self, *_):
            pass

        def get_server_metadata(self):
            return {"observation": {}}

        def infer(self, obs):
            return {"actions": np.zeros((4, 4), np.float32)}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def observe(self):
            return {}

        def move(self, action):
            raise RuntimeError("the arm is broken")

        stand_still = observe

    monkeypatch.setattr(drive_metaworld, "PolicyClient", lambda *_, **__: Broken())
    monkeypatch.setattr(drive_metaworld, "Arm", Broken)
    monkeypatch.setattr(sys, "argv", ["drive_metaworld.py"])
    with pytest.raises(RuntimeError, match="the arm is broken"):
        drive_metaworld.main()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("chunk player")]


@pytest.mark.slow
def test_the_arm_of_the_guide_is_driven_and_its_recording_plays(tmp_path, chromium, monkeypatch, capsys):
    import drive_metaworld

    checkpoint = save_checkpoint(
        tmp_path / "checkpoint",
        inputs={
            "observation.images.corner2": PolicyFeature(FeatureType.VISUAL, (3, 48, 48)),
            "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
        },
        action={"min": [-1.0] * 4, "max": [1.0] * 4, "mean": [0.0] * 4, "std": [0.5] * 4},
    )
    out = tmp_path / "drive.html"
    with serving(checkpoint) as server:
        arguments = [
            "--server",
            f"ws://127.0.0.1:{server.port}",
            "--steps",
            "12",
            "--rate",
            "50",
            "--out",
            str(out),
        ]
        monkeypatch.setattr(sys, "argv", ["drive_metaworld.py", *arguments])
        drive_metaworld.main()
        assert server.metrics.value("requests_total", outcome="answered") >= 3
        assert server.metrics.value("requests_total", outcome="refused") == 0
    assert "control steps: 12 at 50 Hz" in capsys.readouterr().out

    page = chromium.new_page()
    _, troubles = listen(page)
    page.goto(out.as_uri())
    page.wait_for_function("film.readyState >= 2 && film.duration > 0")
    assert page.locator("svg").count() == 4
    assert not troubles
    page.close()
