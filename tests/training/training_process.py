"""A small training as a process of its own: `python training_process.py FOLDER [SECONDS]`.

Each step takes at least SECONDS, told by a line. Under a launcher it joins the other processes.
"""

import sys
import time

from training_toys import PLAIN, points, recipe

from sfumato.core.errors import SfumatoError
from sfumato.training.budget import Examples
from sfumato.training.rundir import RunDir
from sfumato.training.settings import Settings
from sfumato.training.trainer import Trainer
from sfumato.training.world import World


def main(folder, seconds=0.0):
    world, run = World.find(cpu=True), RunDir(folder)
    if world.main:
        run.begin({}, {}, {})
    world.wait()
    data = points(20)
    batch = data.batch

    def slow(*arguments):
        print("step", flush=True)
        time.sleep(seconds)
        return batch(*arguments)

    data.batch = slow
    made = recipe()
    for module in made.model.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0  # masks are tied to the micro-batch, the one thing that is cut differently
    Trainer(
        made,
        data,
        run,
        budget=Examples(160),
        world=world,
        settings=Settings(save_examples=24, execution=PLAIN),
    ).fit()


if __name__ == "__main__":
    try:
        main(sys.argv[1], *map(float, sys.argv[2:]))
    except SfumatoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
