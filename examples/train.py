"""An export, and a few steps of training on it: ACT, small enough for a processor.

    In an environment with LeRobot: python examples/train.py http://localhost:8000 my-user/my-new-dataset 1 2
    (the sessions to train on are last)

`lerobot-train --policy.type=act --dataset.repo_id=my-user/my-new-dataset …` trains in earnest.
"""

import subprocess
import sys

import torch
from lerobot.configs.types import FeatureType
from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot.utils.feature_utils import dataset_to_policy_features

STEPS = 2
BATCH = 2
CHUNK = 8


def export(backend_url: str, repo_id: str, sessions: list[str]) -> None:
    """Make the dataset on the backend, and download it to where LeRobot looks for it."""
    chosen = [f"--session_id={session}" for session in sessions]
    command = ["export-to-dataset", *chosen, f"--repo_id={repo_id}", f"--backend_url={backend_url}"]
    subprocess.run(command, check=True)


def main(backend_url: str, repo_id: str, *sessions: str) -> None:
    export(backend_url, repo_id, list(sessions))
    about = LeRobotDatasetMetadata(repo_id)
    features = dataset_to_policy_features(about.features)
    targets = {name: each for name, each in features.items() if each.type is FeatureType.ACTION}
    config = ACTConfig(
        input_features={name: each for name, each in features.items() if name not in targets},
        output_features=targets,
        chunk_size=CHUNK,
        n_action_steps=CHUNK,
        dim_model=64,
        dim_feedforward=64,
        pretrained_backbone_weights=None,
        device="cpu",
    )
    policy = ACTPolicy(config)
    prepare, _ = make_pre_post_processors(config, dataset_stats=about.stats)
    # Each row with the actions that follow it, as ACT predicts them.
    dataset = LeRobotDataset(repo_id, delta_timestamps={"action": [i / about.fps for i in range(CHUNK)]})
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4)
    policy.train()
    for step, batch in zip(range(STEPS), loader, strict=False):
        loss, _ = policy(prepare(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: loss {loss.item():.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
