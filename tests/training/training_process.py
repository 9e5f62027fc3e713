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
from sfumato.training.state import pack
from sfumato.training.storage import to_json
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
    trainer = Trainer(
        made,
        data,
        run,
        budget=Examples(160),
        world=world,
        held_out=points(12, seed=1),
        settings=Settings(save_examples=24, judged=6, execution=PLAIN),
    )
    model = trainer.fit()
    # what each process goes on with
    own = run.path / f"rank-{world.rank}"
    own.with_suffix(".safetensors").write_bytes(pack(model.state_dict()))
    own.with_suffix(".json").write_bytes(to_json(trainer.progress.chosen))


if __name__ == "__main__":
    try:
        main(sys.argv[1], *map(float, sys.argv[2:]))
    except SfumatoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
