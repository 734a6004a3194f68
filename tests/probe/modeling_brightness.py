import torch
from configuration_brightness import BrightnessConfig
from lerobot.policies import PreTrainedPolicy


class BrightnessPolicy(PreTrainedPolicy):
    config_class = BrightnessConfig
    name = "brightness"

    def __init__(self, config, **kwargs):
        super().__init__(config)
        self.gain = torch.nn.Parameter(torch.tensor(config.gain))

    def reset(self):
        pass

    def get_optim_params(self):
        return self.parameters()

    def forward(self, batch):
        raise NotImplementedError

    def predict_action_chunk(self, batch, **kwargs):
        mean = batch[self.config.camera].mean(dim=(1, 2, 3))
        actions = self.config.output_features["action"].shape[0]
        chunk = (self.gain * mean)[:, None, None].expand(-1, self.config.horizon, actions)
        return chunk + self.config.noise * torch.randn(chunk.shape)

    def select_action(self, batch, **kwargs):
        return self.predict_action_chunk(batch)[:, 0]
