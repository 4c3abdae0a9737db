"""Records a scripted dataset with the real LeRobot, stopping or dying where it is told to. Run as a program.

The argument is a plan in JSON: `root`, `episodes` ([index, frames, task] each), and optionally

    kill      [episode, step]: kill -9 right after that step
    copies    [[episode, step], …] and copy_to: what lies on the disk right after those steps is copied
    finalize  false: kill -9 once all episodes are saved
    depth     true: a depth camera, in mm, too
    extra     true: features of two dimensions and of text, too
    resume, cameras, codec, streaming, dtype, data_files_size_in_mb, video_files_size_in_mb

Steps are "halfway" (between two frames), "done", and the calls within save_episode:
_save_episode_data, _save_episode_video:0, _save_episode_video:1, _save_episode_metadata, write_info,
write_stats.

The same episodes come out the same, row by row and packet by packet, so that a dataset whose recorder was
killed can be held against one whose recorder was not.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

CAMERAS = ("observation.images.front", "observation.images.wrist")
WIDTH, HEIGHT, FPS = 96, 64, 30
DEPTH = {
    "observation.images.depth": {
        "dtype": "video",
        "shape": (HEIGHT, WIDTH, 1),
        "names": ["height", "width", "channels"],
        "info": {"is_depth_map": True},
    }
}
EXTRA = {
    "grid": {"dtype": "float32", "shape": (2, 3), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
}


def features(cameras, dtype, extra, depth):
    joints = [f"joint_{number}.pos" for number in range(6)]
    return {
        "action": {"dtype": "float32", "shape": (6,), "names": joints},
        "observation.state": {"dtype": "float32", "shape": (6,), "names": joints},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        **{
            key: {"dtype": dtype, "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
            for key in cameras
        },
        **(EXTRA if extra else {}),
        **(DEPTH if depth else {}),
    }


def frame(episode, number, cameras, extra, depth):
    chance = np.random.default_rng([episode, number])
    shade = np.linspace(0, 200, WIDTH, dtype=np.uint8)[None, :, None]
    image = np.broadcast_to(shade, (HEIGHT, WIDTH, 3)).copy()
    top = (4 * number) % (HEIGHT - 16)
    image[top : top + 16, 8 * episode % 64 :][:, :16] = 230
    far = 500 + 20 * number + np.add.outer(np.arange(HEIGHT) * 10, np.arange(WIDTH) * 5)
    more = {"grid": chance.normal(size=(2, 3)).astype(np.float32), "note": f"{episode}: {number}"}
    return {
        "action": chance.normal(size=6).astype(np.float32),
        "observation.state": chance.normal(size=6).astype(np.float32),
        "next.success": np.array([number % 7 == 0]),
        **{key: np.roll(image, 11 * (1 + index), axis=1) for index, key in enumerate(cameras)},
        **(more if extra else {}),
        **({key: far.astype(np.uint16)[:, :, None] for key in DEPTH} if depth else {}),
    }


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def main(plan):
    from lerobot.configs import RGBEncoderConfig
    from lerobot.datasets import dataset_metadata
    from lerobot.datasets.dataset_writer import DatasetWriter
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    root = Path(plan["root"])
    cameras = CAMERAS[: plan.get("cameras", 2)]
    more = (plan.get("extra"), plan.get("depth"))
    encoder = RGBEncoderConfig(vcodec=plan.get("codec", "h264"))
    options = {"rgb_encoder": encoder, "streaming_encoding": plan.get("streaming", False)}
    if plan.get("resume"):
        dataset = LeRobotDataset.resume("someone/picking", root=root, **options)
    else:
        dataset = LeRobotDataset.create(
            "someone/picking",
            FPS,
            features(cameras, plan.get("dtype", "video"), *more),
            root=root,
            robot_type="virtual",
            use_videos=plan.get("dtype", "video") == "video",
            **options,
        )
        for name in ("data_files_size_in_mb", "video_files_size_in_mb"):
            if name in plan:
                setattr(dataset.meta.info, name, plan[name])
        dataset_metadata.write_info(dataset.meta.info, root)

    state = {"episode": None}

    def reached(step):
        if [state["episode"], step] == plan.get("kill"):
            die()
        if [state["episode"], step] in plan.get("copies", []):
            shutil.copytree(root, f"{plan['copy_to']}/{state['episode']}-{step.replace(':', '_')}")

    def hooked(owner, name, label=None):
        original = getattr(owner, name)

        def wrapper(*args, **kwargs):
            found = original(*args, **kwargs)
            reached(label(args) if label else name)
            return found

        setattr(owner, name, wrapper)

    hooked(DatasetWriter, "_save_episode_data")
    hooked(
        DatasetWriter,
        "_save_episode_video",
        lambda args: f"_save_episode_video:{[*cameras, *DEPTH].index(args[1])}",
    )
    hooked(dataset_metadata.LeRobotDatasetMetadata, "_save_episode_metadata")
    hooked(dataset_metadata, "write_info")
    hooked(dataset_metadata, "write_stats")

    for episode, length, task in plan["episodes"]:
        state["episode"] = episode
        for number in range(length):
            dataset.add_frame({**frame(episode, number, cameras, *more), "task": task})
            if number == length // 2:
                reached("halfway")
        dataset.save_episode(parallel_encoding=plan.get("parallel", False))
        reached("done")
    state["episode"] = "end"
    if plan.get("finalize", True):
        dataset.finalize()
    else:
        die()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
