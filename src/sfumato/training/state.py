"""The state of a run: everything the future of a training depends on.

    tensors     model, averages, optimizer moments, the objective's own state      (safetensors)
    Progress    position and decisions                                             (JSON)

All randomness is a function of (seed, stage, position), so the seed and the position are the state
of every random generator and of the order of the data. `ids` chains the sample ids of all steps,

    ids_k = SHA-256(ids_{k-1} || sample ids of step k),

so two runs saw the same examples in the same order exactly when their `ids` agree. Loading is
strict: a missing, unknown or mistyped entry is refused by name, and no tensor is ever cast, dropped
or added silently. Weights are sealed together with their recipe (rundir.py), so tensors that do not fit
what the recipe builds come from another form of the code.
"""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor

from ..core.errors import RefusedError
from .storage import DAMAGED, from_json, to_json

VERSION = 1
DONE = "done"
NAMED = 3  # tensors that a refusal names
EARLIER = "Train anew into another folder (--out), or use the version that made the run: run.json names it."


@dataclass
class Progress:
    """Where a run is and what it has decided, as JSON in every checkpoint.

    seen, target   examples of this stage, so far and planned (0: not planned yet); total: of all stages
    elapsed        seconds used by all sessions together
    micro          examples in one micro-batch (0: not decided yet)
    bf16, channels_last, compiled    how steps are computed
    rate_scale, rollbacks            after a divergence; skipped, streak: steps left out, and in a row
    metrics        bytes of metrics.jsonl that belong to this state
    losses, held_out                 [seen, value] pairs of this stage
    judged, looked last positions with a held-out loss and a look by probes (-1: none in this stage)
    best           name of the checkpoint of least held-out loss `best_loss` in this stage; only the
                   main process, which writes checkpoints and chooses among them, knows it
    chosen         {stage done: length of the average that became its weights}
    environment    what bitwise equality depends on
    """

    seed: int
    version: int = VERSION
    stage: int = 0
    stage_name: str = ""
    seen: int = 0
    target: int = 0
    total: int = 0
    elapsed: float = 0.0
    ids: str = ""
    micro: int = 0
    bf16: bool = False
    channels_last: bool = False
    compiled: bool = False
    rate_scale: float = 1.0
    rollbacks: int = 0
    skipped: int = 0
    streak: int = 0
    metrics: int = 0
    losses: list[list[float]] = field(default_factory=list)
    held_out: list[list[float]] = field(default_factory=list)
    judged: int = -1
    looked: int = -1
    best: str = ""
    best_loss: float = 0.0
    chosen: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def see(self, ids: Tensor) -> None:
        """Advance by one step over these sample ids (of the whole global batch)."""
        digest = hashlib.sha256(self.ids.encode())
        digest.update(ids.to(torch.int64).numpy().tobytes())
        self.ids = digest.hexdigest()
        self.seen += len(ids)
        self.total += len(ids)

    def begin(self, stage: int, name: str) -> None:
        """Move to the start of a stage."""
        self.stage, self.stage_name, self.seen, self.target = stage, name, 0, 0
        self.rate_scale, self.rollbacks, self.streak, self.micro = 1.0, 0, 0, 0
        self.judged = self.looked = -1
        if name != DONE:  # what is known of the last stage stays
            self.losses, self.held_out = [], []
            self.best, self.best_loss = "", 0.0

    def to_bytes(self) -> bytes:
        """The JSON of this state."""
        return to_json(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, where: object) -> Progress:
        """The state of JSON bytes; RefusedError names what is missing, unknown or of another type."""
        value = from_json(data, where)
        if not isinstance(value, dict):
            raise RefusedError("the state is not a JSON object", where=where, remedy=DAMAGED)
        known = {f.name: f for f in fields(cls)}
        if value.get("version", VERSION) != VERSION:
            raise RefusedError(
                f"the checkpoint is of version {value['version']}, this program reads version {VERSION}",
                where=where,
                remedy="Continue with the version of sfumato that run.json names.",
            )
        for name in known:
            if name not in value:
                raise RefusedError(f"the checkpoint lacks '{name}'", where=where, remedy=DAMAGED)
        for name, entry in value.items():
            if name not in known:
                raise RefusedError(
                    f"the checkpoint has an unknown entry '{name}'", where=where, remedy=DAMAGED
                )
            if not _fits(entry, str(known[name].type)):
                raise RefusedError(f"the checkpoint's '{name}' is {entry!r:.60}", where=where, remedy=DAMAGED)
        return cls(**value)


def _fits(entry: Any, kind: str) -> bool:
    if kind == "int":
        return type(entry) is int and entry >= -1
    if kind == "float":
        return type(entry) in (int, float) and math.isfinite(entry)
    if kind.startswith("list"):
        pair = (list, 2)
        return isinstance(entry, list) and all((type(p), len(p)) == pair for p in entry)
    return isinstance(entry, {"str": str, "bool": bool}.get(kind, dict))


def environment(device: torch.device, compiled: bool = False) -> dict[str, Any]:
    """What bitwise equality depends on besides the state: versions, processor, device, threads.

    kernel: the library of the fused kernel where a stage is `compiled` on a CPU (its name is a hash of
    source, compiler and processor), "" where it is not in use.
    """
    from .. import __version__
    from ..nets.fused import kernel

    code = kernel() if compiled and device.type == "cpu" else None

    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "sfumato": __version__,
        "torch": torch.__version__,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "device": gpu or device.type,
        "threads": torch.get_num_threads(),
        "kernel": "" if code is None else code.name,
    }


# ------------------------------------------------------------------------------------- tensors


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as safetensors; each is copied to the CPU, dense and on its own."""
    return serialise(
        {
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
    )


def unpack(
    data: bytes, expected: Mapping[str, Tensor] | None, what: str, where: object = None
) -> dict[str, Tensor]:
    """The tensors of safetensors bytes, with exactly the expected names, shapes and types (None: any).

    Bytes must have been verified before. RefusedError names the first tensors that do not fit.
    """
    try:
        found = parse(data)
    except SafetensorError as error:
        raise RefusedError(
            f"{what} is not a safetensors file: {error}", where=where, remedy=DAMAGED
        ) from None
    if apart := [] if expected is None else misfits(found, expected):
        more = f"; and {len(apart) - NAMED:,} more" if len(apart) > NAMED else ""
        raise RefusedError(
            f"{what} was written by another form of this recipe, most likely an earlier one: "
            f"{'; '.join(apart[:NAMED])}{more}",
            where=where,
            remedy=EARLIER,
        )
    return found


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """One phrase for each tensor that differs: those of another shape or type, the missing, the unknown."""
    other = [
        f"'{name}' is {_kind(found[name])} there and {_kind(tensor)} in the network built now"
        for name, tensor in expected.items()
        if name in found and _kind(found[name]) != _kind(tensor)
    ]
    missing = [
        f"'{name}', {_kind(tensor)} in the network built now, is missing"
        for name, tensor in expected.items()
        if name not in found
    ]
    unknown = [
        f"'{name}', {_kind(tensor)} there, is unknown to the network built now"
        for name, tensor in sorted(found.items())
        if name not in expected
    ]
    return [*other, *missing, *unknown]


def _kind(tensor: Tensor) -> str:
    """Shape and type, as in "(2, 3) float32"."""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor with a NaN or an infinity, or ""."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return ""
