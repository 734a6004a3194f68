"""What a training step is made of: the configuration reaches the losses, and padding carries none of them."""

import pytest
import torch
from test_policy import CAMERA, batch, policy

from lerobot_policy_dap.flow import Coupling, Seen

WRIST = "observation.images.wrist"


@pytest.mark.parametrize(
    ("options", "keyword", "value"),
    [
        ({"align": True}, "align", True),
        ({"align": False}, "align", False),
        ({"dynamics_teaches_encoder": True}, "teach_context", True),
        ({"dynamics_teaches_encoder": False}, "teach_context", False),
        ({"feedback_dropout": 0.75}, "feedback_dropout", 0.75),
        ({"time_alpha": 2.5}, "time_alpha", 2.5),
        ({"dynamics_only_tasks": ["wander"]}, "imitate", [True, True, False, False, True, True]),
        ({"dynamics_only_tasks": []}, "imitate", None),
    ],
    ids=str,
)
def test_the_configuration_reaches_the_losses(asked, options, keyword, value):
    made = policy(coupling="two_way", **options).train()
    made(batch(made, n=3) | {"task": ["lift", "wander", "play"]})
    (args, kwargs, _), *more = asked
    assert not more
    assert args[:3] == (made.policy, made.dynamics, made.config.arm)
    found = kwargs[keyword]
    assert (found.tolist() if torch.is_tensor(found) else found) == value


@pytest.mark.parametrize("draws", [1, 3])
def test_every_encoded_row_is_drawn_several_times_and_encoded_once(asked, draws):
    made = policy(coupling="two_way", image_shift=0, image_light=0.0, noise_draws=draws).train()
    rows = []
    made.encoder.register_forward_hook(lambda module, images, z: rows.append(len(z)))
    given = batch(made)
    given["action_is_pad"][1, 4:] = True
    given[f"{CAMERA}_is_pad"][2, 1] = True
    made(given)
    assert rows == [5]
    (_, _, _, context, action, outcome), kwargs, _ = asked[0]
    assert len(outcome) == len(kwargs["outcome_is_pad"]) == 5 * draws
    for drawn, whole in (
        (context, made.context(given)),
        (action, given["action"]),
        (kwargs["action_is_pad"], given["action_is_pad"]),
        (kwargs["outcome_is_pad"], given[f"{CAMERA}_is_pad"][:, 1:]),
    ):
        assert torch.equal(drawn, torch.stack([row for row in whole for _ in range(draws)]))


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.25, 2.0), (3.0, 0.0)])
def test_the_loss_is_the_weighted_sum(asked, weights):
    made = policy(dynamics_weight=weights[0], dynamics_true_weight=weights[1]).train()
    whole, figures = made(batch(made))
    imitation, dynamics, dynamics_true = (
        getattr(asked[0][2], name).item() for name in ("policy", "dynamics", "dynamics_true")
    )
    assert len({imitation, dynamics, dynamics_true}) == 3
    assert whole.item() == pytest.approx(imitation + weights[0] * dynamics + weights[1] * dynamics_true, rel=1e-5)
    assert figures["policy_loss"] == imitation
    assert figures["dynamics_loss"] == dynamics
    assert figures["dynamics_true_loss"] == dynamics_true


@pytest.mark.parametrize("velocity", ["mlp", "transformer"])
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("coupling", [arm for arm in Coupling if arm.learns_dynamics])
def test_the_dynamics_loss_reaches_the_policy_through_its_estimate_alone(asked, coupling, align, velocity):
    """And so in no arm whose dynamics sees none: `agnostic` and `one_way` cannot be aligned."""
    sizes = {"hidden_dim": 64, "dynamics_hidden_dim": 64, "dynamics_depth": 1}
    made = policy(coupling=coupling, align=align, velocity=velocity, **sizes).train()
    made(batch(made))
    losses = asked[0][2]
    aligned = align and coupling.dynamics_sees is Seen.ESTIMATE
    for part, reaches in ((losses.dynamics, aligned), (losses.dynamics_true, False)):
        made.zero_grad(set_to_none=True)
        part.backward(retain_graph=True)
        assert any(p.grad is not None and bool(p.grad.any()) for p in made.policy.parameters()) == reaches
        assert any(p.grad is not None and bool(p.grad.any()) for p in made.dynamics.parameters())


def loss(made, given):
    torch.manual_seed(0)
    return made(given)[0].item()


def seeing_each_number_alone(**options):
    """A policy whose velocities are those of standard normal data: what is masked cannot be seen by the rest."""
    made = policy(noise_draws=3, image_shift=0, **options).eval()
    for model in (made.policy, made.dynamics):
        torch.nn.init.zeros_(model.out.weight)
        torch.nn.init.zeros_(model.out.bias)
    return made


@pytest.mark.parametrize("coupling", ["none", "auxiliary"])
def test_steps_past_the_end_of_the_episode_are_not_imitated(coupling):
    made = seeing_each_number_alone(
        coupling=coupling, dynamics_weight=0.0, dynamics_true_weight=0.0, cameras=(CAMERA, WRIST)
    )
    given = batch(made)
    given["action_is_pad"][0, 2:] = True
    given["action_is_pad"][3, 5:] = True
    found = loss(made, given)
    past, shown = (given | {"action": given["action"].clone()} for _ in range(2))
    past["action"][0, 2:] += 100
    past["action"][3, 5:] -= 100
    shown["action"][0, 1] += 1
    assert loss(made, past) == found
    assert loss(made, shown) > found + 1e-2


@pytest.mark.parametrize("options", [{}, {"outcome_offsets": (3, 6), "outcome_grid": 2}], ids=str)
def test_each_outcome_past_the_end_of_the_episode_teaches_nothing(options):
    made = seeing_each_number_alone(coupling="auxiliary", **options)
    last = len(made.config.observation_delta_indices) - 1
    given = batch(made)
    given[f"{CAMERA}_is_pad"][1, last] = True
    found = loss(made, given)

    def changed(row, step):
        other = given | {"observation.state": given["observation.state"].clone()}
        other["observation.state"][row, step] = 4
        return loss(made, other)

    assert changed(1, last) == found
    for row, step in [(0, last), (2, last), *([(1, 1)] if last > 1 else [])]:
        assert changed(row, step) != found
