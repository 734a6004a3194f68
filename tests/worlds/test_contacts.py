"""The quicker question for contacts against Meta-World's own."""

from lerobot_policy_dap.worlds.tasks import expert
from lerobot_policy_dap.worlds.world import World


def test_the_answer_is_meta_worlds_at_every_step_of_a_grasp() -> None:
    from metaworld.sawyer_xyz_env import SawyerXYZEnv

    world = World("pick-place")
    act = expert(world.task)
    world.reset(0)
    env = world._env
    answers = []
    for _ in range(120):
        world.step(act(world.observation39))
        for geom in (env._get_id_main_object(), env.data.geom("leftpad_geom").id):
            answer = env.touching_object(geom)
            assert answer == SawyerXYZEnv.touching_object(env, geom)
            answers.append(bool(answer))
    assert {True, False} == set(answers)
